//! One of many sidecars, as its stream on the control link.
//!
//! Owns what such a sidecar says: Hello, then of one mount whether its remote can be reached, whenever that
//! changes. The stream is made by the sidecar's own code; no process and no bucket stand behind it, since the
//! operator knows a sidecar by its stream alone. For scenarios with hundreds of them.

use std::path::Path;

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt as _};
use remotemount_crds::control::control_client::ControlClient;
use remotemount_crds::control::sidecar_message::Message;
use remotemount_crds::control::{
    Hello, MountRef, MountStatus, OperatorMessage, Reachability, Remote, SidecarMessage, Status,
};
use remotemount_sidecar::link::connect::connect;
use remotemount_sidecar::link::settings::Settings;
use tokio::sync::watch;
use tonic::{Request, Streaming};

/// What a sidecar of the crowd needs to join.
#[derive(Debug)]
pub struct Member<'m> {
    /// `https://host:port`
    pub endpoint: &'m str,
    /// The certificate that the operator is trusted by, in PEM.
    pub ca: &'m Path,
    /// Who it is: a file with a token of its pod.
    pub token: &'m Path,
    /// The mount's name, and its uid.
    pub mount: (&'m str, &'m str),
}

impl Member<'_> {
    /// Joins, is welcomed, and says from then on what `reachable` says.
    ///
    /// # Errors
    /// The operator cannot be reached, or does not take it.
    pub async fn join(&self, reachable: watch::Receiver<bool>) -> Result<Streaming<OperatorMessage>> {
        let target = Settings::new(self.endpoint, self.ca.to_owned(), self.token.to_owned())?.read()?;
        let mut client = ControlClient::with_origin(connect(&target).await?, self.endpoint.parse()?);
        let (name, uid) = (self.mount.0.to_owned(), self.mount.1.to_owned());
        let mount = MountRef { name: name.clone(), uid: uid.clone(), generation: 1 };
        let hello = Message::Hello(Hello { mounts: vec![mount], ..Hello::default() });
        let statuses = stream::unfold((reachable, true), move |(mut reachable, first)| {
            let mount = MountStatus { name: name.clone(), uid: uid.clone(), generation: 1, ..MountStatus::default() };
            async move {
                if !first {
                    reachable.changed().await.ok()?;
                }
                let remote = Some(remote(*reachable.borrow_and_update()));
                let status = Status { mounts: vec![MountStatus { remote, ..mount }], ..Status::default() };
                Some((Message::Status(status), (reachable, false)))
            }
        });
        let messages = stream::iter([hello]).chain(statuses);
        let mut request = Request::new(messages.map(|message| SidecarMessage { message: Some(message) }));
        let token = std::fs::read_to_string(self.token).context("reading the token")?;
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let mut down = client.connect(request).await?.into_inner();
        down.message().await?.context("no welcome")?;
        Ok(down)
    }
}

fn remote(reachable: bool) -> Remote {
    if reachable {
        return Remote { reachability: Reachability::Reachable.into(), since_millis: 1, ..Remote::default() };
    }
    Remote {
        reachability: Reachability::Unreachable.into(),
        reason: "Unavailable".to_owned(),
        message: "the remote is unavailable".to_owned(),
        since_millis: 2,
    }
}

//! One stream, from Hello to its end: statuses up when something changed, manifests down.
//!
//! The state is looked at twice a second and sent if it differs from what was sent, and as heartbeat.
//! A status that does not fit into the connection just now is not queued: the next look sends what is
//! true then. Whatever comes down and is not known is ignored.

use std::time::Duration;

use futures_util::stream;
use http::header::AUTHORIZATION;
use remotemount_crds::control::control_client::ControlClient;
use remotemount_crds::control::operator_message::Message as Down;
use remotemount_crds::control::sidecar_message::Message as Up;
use remotemount_crds::control::{
    Hello, MAX_DOWN_BYTES, MAX_UP_BYTES, Manifests, OperatorMessage, PROTOCOL, SidecarMessage, Status, Welcome,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};

use crate::link::Link;
use crate::link::connect::connect;
use crate::link::error::LinkError;
use crate::metrics::LinkMetrics;
use crate::mounts::newest::Taken;

/// Between two looks at the state.
const LOOK: Duration = Duration::from_millis(500);
/// A status is sent at least this often.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The operator's first words come within this.
const WELCOME: Duration = Duration::from_secs(20);
/// Messages that wait to be sent.
const WAITING: usize = 2;

impl Link {
    /// Connects and stays until the stream ends; `Ok` when the operator only wants this sidecar to come again.
    pub(super) async fn session(&mut self, start_id: &str) -> Result<(), LinkError> {
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || settings.read()).await;
        let target = read.map_err(|error| LinkError::Ended(error.to_string()))??;
        let endpoint = target.endpoint.to_string();
        self.state.to(&endpoint);
        let connection = connect(&target).await?;
        let malformed = |problem: String| LinkError::Malformed { flag: "--control", problem };
        let origin = endpoint.parse().map_err(|error| malformed(format!("{endpoint}: {error}")))?;
        let mut client = ControlClient::with_origin(connection, origin)
            .max_decoding_message_size(MAX_DOWN_BYTES)
            .max_encoding_message_size(MAX_UP_BYTES);
        let (up, waiting) = mpsc::channel(WAITING);
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            start_id: start_id.to_owned(),
            mounts: self.reporter.mounts(),
            heartbeat_seconds: u32::try_from(HEARTBEAT.as_secs()).unwrap_or_default(),
        };
        let sent = up.try_send(SidecarMessage { message: Some(Up::Hello(hello)) });
        sent.map_err(|error| LinkError::Ended(error.to_string()))?;
        let messages = stream::unfold(waiting, |mut waiting| async move { Some((waiting.recv().await?, waiting)) });
        let mut request = Request::new(messages);
        let mut bearer = MetadataValue::try_from(format!("Bearer {}", target.token))
            .map_err(|_| malformed("the token is no header value".to_owned()))?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert(AUTHORIZATION.as_str(), bearer);
        let late = || LinkError::Unavailable(format!("no answer within {} s", WELCOME.as_secs()));
        let answer = timeout(WELCOME, client.connect(request)).await.map_err(|_| late())?;
        let mut down = answer.map_err(|status| LinkError::of(&status))?.into_inner();
        let Some(welcome) = timeout(WELCOME, welcome(&mut down)).await.map_err(|_| late())?? else { return Ok(()) };
        self.state.connected(&welcome.namespace, &welcome.pod, &welcome.version);
        self.welcomed(&up, &mut down).await
    }

    async fn welcomed(
        &mut self,
        up: &mpsc::Sender<SidecarMessage>,
        down: &mut Streaming<OperatorMessage>,
    ) -> Result<(), LinkError> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<(Status, Instant)> = None;
        loop {
            tokio::select! {
                now = look.tick() => {
                    let status = self.reporter.status(now);
                    let due = last.as_ref().is_none_or(|(sent, at)| *sent != status || now.duration_since(*at) >= HEARTBEAT);
                    let message = || SidecarMessage { message: Some(Up::Status(status.clone())) };
                    if due && up.try_send(message()).is_ok() {
                        self.state.metrics().statuses.inc();
                        last = Some((status, now));
                    }
                }
                message = down.message() => match message.map_err(|status| LinkError::of(&status))? {
                    None => return Ok(()),
                    Some(OperatorMessage { message: Some(Down::Manifests(manifests)) }) => self.take(manifests),
                    Some(_) => {}
                },
            }
        }
    }

    fn take(&self, manifests: Manifests) {
        let [taken, old, refused] = LinkMetrics::MANIFESTS;
        for came in manifests.mounts {
            let name = came.name.clone();
            let result = match self.newest.take(came) {
                Taken::News => {
                    tracing::info!(mount = name, "newer manifest by the control link");
                    taken
                }
                Taken::Old => old,
                Taken::Refused(problem) => {
                    tracing::error!(
                        mount = name,
                        problem,
                        "manifest by the control link refused; what is in force stays"
                    );
                    refused
                }
            };
            self.state.metrics().manifest(result);
        }
    }
}

/// The operator's first message that is known; `None` when it only wants this sidecar to come again.
async fn welcome(down: &mut Streaming<OperatorMessage>) -> Result<Option<Welcome>, LinkError> {
    loop {
        match down.message().await.map_err(|status| LinkError::of(&status))? {
            None => return Ok(None),
            Some(OperatorMessage { message: Some(Down::Welcome(welcome)) }) => return Ok(Some(welcome)),
            Some(_) => {}
        }
    }
}

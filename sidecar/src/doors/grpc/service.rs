//! The filer's methods, each one verb of the filer or a fact about it.
//!
//! A method reads its request ([`request`]), calls the filer, and writes what it says ([`entry`]); what
//! takes more than a few lines has a module of its own. Keys and values of clients are refused, not
//! answered as empty: a client keeps its progress there and would start from nothing. Never decides
//! anything about entries, and never asks another filer.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use crate::clock;
use crate::doors::grpc::list::{self, Entries};
use crate::doors::grpc::proto::seaweed_filer_server::SeaweedFiler;
use crate::doors::grpc::subscribe::{self, Changes, Follower};
use crate::doors::grpc::{STALE, delete, entry, error, proto, request};
use crate::filer::{Filer, FilerError, Want};
use crate::mounts::Mounts;

/// Where the reference filer keeps its buckets; clients ask because they treat what is there apart.
const BUCKETS: &str = "/buckets";
/// How large the chunks are that clients may write, in MiB: the reference's own figure, though nothing
/// can be written here.
const CHUNK_MIB: u32 = 4;

/// The filer, as the protocol sees it.
pub struct Service {
    /// The filer.
    pub filer: Filer,
    /// The table in force, for the names of the mounts of events.
    pub mounts: Arc<Mounts>,
    /// The addresses by which clients may mean this filer.
    pub own: Vec<String>,
    /// Ends subscriptions.
    pub stop: CancellationToken,
}

impl Service {
    fn follower(&self) -> Follower {
        Follower::new(self.filer.clone(), Arc::clone(&self.mounts), self.stop.clone())
    }
}

#[tonic::async_trait]
impl SeaweedFiler for Service {
    async fn lookup_directory_entry(
        &self,
        request: Request<proto::LookupDirectoryEntryRequest>,
    ) -> Result<Response<proto::LookupDirectoryEntryResponse>, Status> {
        let asked = request.into_inner();
        let path = request::path(&asked.directory, &asked.name)?;
        let found = self.filer.lookup(&path, Want::Described).await?;
        let Some(entry) = entry::found(&found) else {
            return Err(FilerError::NotFound { mount: None, path: path.to_string() }.into());
        };
        let mut answer = Response::new(proto::LookupDirectoryEntryResponse {
            entry: Some(entry),
            // Events are no part of what a lookup answers, so no place in the log can be named.
            log_ts_ns: 0,
            log_signature: 0,
        });
        if found.stale {
            answer.metadata_mut().insert(STALE, MetadataValue::from_static("true"));
        }
        Ok(answer)
    }

    type ListEntriesStream = Entries;

    async fn list_entries(&self, request: Request<proto::ListEntriesRequest>) -> Result<Response<Entries>, Status> {
        list::answer(self.filer.clone(), request.into_inner()).await
    }

    async fn delete_entry(
        &self,
        request: Request<proto::DeleteEntryRequest>,
    ) -> Result<Response<proto::DeleteEntryResponse>, Status> {
        delete::answer(&self.filer, &self.mounts, request.into_inner()).await
    }

    type SubscribeMetadataStream = Changes;

    async fn subscribe_metadata(
        &self,
        request: Request<proto::SubscribeMetadataRequest>,
    ) -> Result<Response<Changes>, Status> {
        subscribe::answer(self.follower(), request.into_inner())
    }

    type SubscribeLocalMetadataStream = Changes;

    async fn subscribe_local_metadata(
        &self,
        request: Request<proto::SubscribeMetadataRequest>,
    ) -> Result<Response<Changes>, Status> {
        subscribe::answer(self.follower(), request.into_inner())
    }

    async fn get_filer_configuration(
        &self,
        _: Request<proto::GetFilerConfigurationRequest>,
    ) -> Result<Response<proto::GetFilerConfigurationResponse>, Status> {
        Ok(Response::new(proto::GetFilerConfigurationResponse {
            max_mb: CHUNK_MIB,
            dir_buckets: BUCKETS.to_owned(),
            signature: self.filer.events().signature(),
            version: concat!("RemoteMount ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Default::default()
        }))
    }

    async fn statistics(
        &self,
        _: Request<proto::StatisticsRequest>,
    ) -> Result<Response<proto::StatisticsResponse>, Status> {
        let file_count = self.filer.entries()?;
        Ok(Response::new(proto::StatisticsResponse { file_count, ..Default::default() }))
    }

    async fn ping(&self, request: Request<proto::PingRequest>) -> Result<Response<proto::PingResponse>, Status> {
        let start_time_ns = now();
        let target = request.into_inner().target;
        if !target.is_empty() && !self.own.contains(&target) {
            // Asking whatever address a stranger names is nobody's business.
            return Err(error::invalid(format!("{target:?} is not this filer, and it asks no other")));
        }
        let stop_time_ns = now();
        Ok(Response::new(proto::PingResponse { start_time_ns, remote_time_ns: start_time_ns, stop_time_ns }))
    }

    async fn kv_get(&self, _: Request<proto::KvGetRequest>) -> Result<Response<proto::KvGetResponse>, Status> {
        Err(no_keys())
    }

    async fn kv_put(&self, _: Request<proto::KvPutRequest>) -> Result<Response<proto::KvPutResponse>, Status> {
        Err(no_keys())
    }
}

fn now() -> i64 {
    i64::try_from(clock::nanos()).unwrap_or(i64::MAX)
}

fn no_keys() -> Status {
    let text = "this filer keeps no keys and values for its clients: keep them elsewhere, such as a progress in a file";
    error::refusal(Code::Unimplemented, "NotSupported", text)
}

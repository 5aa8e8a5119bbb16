//! Reflect: a store a watch, and one stream of what happened to what is in it.
//!
//! A watch begins, and after an interruption begins again, by listing everything; the store takes the
//! list over as a whole when it is complete, and only then is it told of, as one word: what vanished
//! while nobody watched has no event of its own.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt as _, select_all};
use kube::runtime::reflector::{self, Lookup, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Resource};
use prometheus_client::metrics::counter::Counter;
use serde::de::DeserializeOwned;

/// One store a watch: two watches must not fill one store, because each begins by saying what is *all* there is.
#[derive(Clone)]
pub struct Stores<K: Lookup + 'static>
where
    K::DynamicType: Hash + Eq,
{
    stores: Vec<Store<K>>,
}

/// What happened to a store. It has happened by the time it is told.
#[derive(Debug)]
pub enum Told<K> {
    /// An object came or changed.
    There(K),
    /// An object went.
    Gone(K),
    /// Everything was listed anew.
    Listed,
}

/// What a watch says.
pub type Watch<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// Watches each API for what `config` says.
pub fn watches<K>(apis: Vec<Api<K>>, config: &watcher::Config) -> Vec<Watch<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watch = |api| {
        // Who manages which field is of no use here, and is the larger part of most objects.
        let watch = watch(api, config.clone()).default_backoff();
        watch.modify(|object: &mut K| object.meta_mut().managed_fields = None).boxed()
    };
    apis.into_iter().map(watch).collect()
}

/// Keeps a store a watch, and tells of what happened to it; `failed` is counted up when a watch cannot go on.
pub fn reflect<K>(watches: Vec<Watch<K>>, failed: &Counter) -> (Stores<K>, BoxStream<'static, Told<K>>)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (mut stores, mut streams) = (Vec::new(), Vec::new());
    for watch in watches {
        let (store, writer) = reflector::store();
        stores.push(store);
        let failed = failed.clone();
        let told = reflector::reflector(writer, watch).filter_map(move |event| {
            if event.is_err() {
                failed.inc();
            }
            async {
            match event {
                Ok(Event::Apply(object)) => Some(Told::There(object)),
                Ok(Event::Delete(object)) => Some(Told::Gone(object)),
                Ok(Event::InitDone) => Some(Told::Listed),
                Ok(Event::Init | Event::InitApply(_)) => None,
                Err(error) => {
                    tracing::warn!(%error, "the API server cannot be watched; what is known is kept, and it is tried again");
                    None
                }
            }
            }
        });
        streams.push(told.boxed());
    }
    (Stores { stores }, select_all(streams).boxed())
}

impl<K> Stores<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    /// Waits until everything has been heard once.
    pub async fn ready(&self) {
        for store in &self.stores {
            // An error means that the watch has ended, which it does with the process.
            let _ = store.wait_until_ready().await;
        }
    }

    /// Everything, in no order.
    pub fn all(&self) -> impl Iterator<Item = Arc<K>> {
        self.stores.iter().flat_map(Store::state)
    }

    /// One object.
    pub fn get(&self, key: &ObjectRef<K>) -> Option<Arc<K>> {
        self.stores.iter().find_map(|store| store.get(key))
    }
}

//! What all requests share.

use std::{net::SocketAddr, sync::Arc};

use longhaul_scheduler::Client;

use super::{ServeOptions, Stopping, assets::Assets, events::Feeds};

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub(super) struct App(Arc<Shared>);

pub(super) struct Shared {
    /// For the tenant of the installation's settings; others are made from it.
    pub(super) client: Client,
    pub(super) address: SocketAddr,
    pub(super) options: ServeOptions,
    pub(super) assets: Assets,
    pub(super) feeds: Feeds,
    stopping: Stopping,
}

impl App {
    pub(super) fn new(client: Client, address: SocketAddr, options: ServeOptions) -> Self {
        let assets = Assets::new(options.console.clone());
        Self(Arc::new(Shared { client, address, options, assets, feeds: Feeds::default(), stopping: Stopping::new() }))
    }

    pub(super) fn stopping(&self) -> &Stopping {
        &self.0.stopping
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

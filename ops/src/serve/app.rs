//! What all requests share.

use std::{net::SocketAddr, sync::Arc};

use longhaul_scheduler::Client;

use super::{ServeOptions, Stopping, assets::Assets, events::Feeds, rate::Rate, requests::Requests};

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
    pub(super) rate: Rate,
    pub(super) requests: Requests,
    /// Whose program this is: who acts, when nobody says who he is.
    pub(super) user: String,
    stopping: Stopping,
}

impl App {
    pub(super) fn new(client: Client, address: SocketAddr, options: ServeOptions) -> Self {
        let rate = Rate::new(options.rate);
        let assets = Assets::new(options.console.clone());
        Self(Arc::new(Shared {
            client,
            address,
            options,
            assets,
            feeds: Feeds::default(),
            rate,
            requests: Requests::default(),
            user: user(),
            stopping: Stopping::new(),
        }))
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

/// The user of this machine, as for the commands of this program.
fn user() -> String {
    let variable = |name| std::env::var(name).ok().filter(|name: &String| !name.is_empty());
    variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "anonymous".into())
}

//! Live changes: a topic is looked at once a second as long as somebody listens to it, once for all who do. What it shows is told when
//! it is not what was told before. When nobody listens, nothing is asked of the database.

use std::{
    collections::HashMap,
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, stream};
use longhaul_scheduler::Client;
use longhaul_schema::Error;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::{problem::Problem, routes};

/// How often a topic is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The most topics that are looked at at once.
const MOST_FEEDS: usize = 500;

/// Something to listen to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// A list, or the overview.
    Named(TopicName),
    /// A run with its steps.
    Run(Uuid),
    /// The states of some runs.
    Runs(Vec<Uuid>),
}

macro_rules! topics {
    ($($name:ident = $word:literal,)*) => {
        /// Lists that can be listened to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum TopicName {
            $($name,)*
        }

        impl TopicName {
            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// All names, for people.
            pub(super) fn all() -> String {
                [$($word),*].join(", ")
            }
        }

        impl FromStr for TopicName {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$name),)*
                    other => Err(format!("{other:?} is no topic; there are {}", Self::all())),
                }
            }
        }
    };
}

topics! {
    Overview = "overview",
    Newest = "newest",
    Queues = "queues",
    Workers = "workers",
    Schedules = "schedules",
    Locks = "locks",
    Questions = "questions",
    DeadLetters = "dead-letters",
}

impl Topic {
    fn name(&self) -> &'static str {
        match self {
            Self::Named(name) => name.as_str(),
            Self::Run(_) => "run",
            Self::Runs(_) => "runs",
        }
    }

    /// What there is to see now.
    async fn look(&self, client: &Client) -> Result<String, Error> {
        match self {
            Self::Named(TopicName::Overview) => text(&routes::overview(client).await?),
            Self::Named(TopicName::Newest) => {
                let filter = longhaul_schema::calls::RunFilter { limit: 1, ..Default::default() };
                text(&json!({ "id": client.list(&filter).await?.first().map(|run| run.id) }))
            }
            Self::Named(TopicName::Queues) => text(&routes::all_queues(client).await?),
            Self::Named(TopicName::Workers) => text(&routes::workers(client, false).await?),
            Self::Named(TopicName::Schedules) => text(&routes::schedules(client).await?),
            Self::Named(TopicName::Locks) => text(&routes::locks(client, false).await?),
            Self::Named(TopicName::Questions) => text(&routes::questions(client, None).await?),
            Self::Named(TopicName::DeadLetters) => text(&routes::dead_letter_groups(client).await?),
            Self::Run(id) => {
                let (run, steps) = (routes::run(client, *id).await?, routes::steps(client, *id).await?);
                text(&json!({ "run": run, "steps": steps }))
            }
            Self::Runs(ids) => {
                let (tenant, ids) = (client.database().tenant(), ids.as_slice());
                let states =
                    client.database().retrying(|calls| async move { calls.run_marks(tenant, ids).await }).await?;
                let states: Vec<_> = states.iter().map(|mark| json!({
                    "id": mark.id, "state": mark.state, "revision": mark.revision, "steps_open": mark.open_steps, "ended_at": mark.ended_at,
                })).collect();
                text(&states)
            }
        }
    }
}

fn text(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(error.to_string()))
}

/// What a topic shows now.
pub(super) struct Change {
    /// The topic.
    pub(super) name: &'static str,
    /// JSON.
    pub(super) data: Arc<str>,
}

type Key = (String, Topic);
type Sender = watch::Sender<Option<Arc<str>>>;

/// The topics that somebody listens to.
#[derive(Clone, Default)]
pub(super) struct Feeds(Arc<Mutex<HashMap<Key, Sender>>>);

impl Feeds {
    /// What a topic shows now, and from then on whenever it has changed.
    pub(super) fn subscribe(
        &self,
        client: &Client,
        topic: Topic,
    ) -> Result<Pin<Box<dyn Stream<Item = Change> + Send>>, Problem> {
        let name = topic.name();
        let key = (client.database().tenant().to_owned(), topic);
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if feeds.len() >= MOST_FEEDS && !feeds.contains_key(&key) {
            return Err(Problem::too_many(format!("{MOST_FEEDS} topics are listened to, as many as may")));
        }
        let sender = feeds.entry(key.clone()).or_insert_with(|| {
            let sender = watch::Sender::new(None);
            tokio::spawn(self.clone().keep(key, client.clone(), sender.clone()));
            sender
        });
        let mut receiver = sender.subscribe();
        receiver.mark_changed();
        Ok(Box::pin(stream::unfold(receiver, move |mut receiver| async move {
            loop {
                receiver.changed().await.ok()?;
                let data = receiver.borrow_and_update().clone();
                if let Some(data) = data {
                    return Some((Change { name, data }, receiver));
                }
            }
        })))
    }

    /// Looks at a topic until nobody listens any more.
    async fn keep(self, key: Key, client: Client, sender: Sender) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.is_over(&key, &sender) {
                return;
            }
            match key.1.look(&client).await {
                Ok(seen) => {
                    sender.send_if_modified(|told| {
                        let news = told.as_deref() != Some(seen.as_str());
                        if news {
                            *told = Some(seen.into());
                        }
                        news
                    });
                }
                Err(error) => tracing::debug!(%error, topic = key.1.name(), "a topic could not be looked at"),
            }
        }
    }

    /// Whether nobody listens. Then it is forgotten, in one step: whoever comes next begins anew.
    fn is_over(&self, key: &Key, sender: &Sender) -> bool {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = sender.receiver_count() == 0;
        if over {
            feeds.remove(key);
        }
        over
    }
}

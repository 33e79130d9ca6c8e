//! Typed jobs, shared state, middleware, and the span of an attempt.

use std::{
    io,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use longhaul::{Job, Middleware, Next, Payload, Start, StepContext, StepError, Unique, calls::RunState};
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{nothing, with_database, within};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    cents: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    order: u64,
    bank: String,
}

const CHARGE: Job<Order, Receipt> = Job::new("payment.charge");
const PARENT: Job<Order, Receipt> = Job::new("parent");

struct Bank(String);

async fn charge(ctx: StepContext, order: Order) -> Result<Receipt, StepError> {
    Ok(Receipt { order: order.id, bank: ctx.state::<Bank>()?.0.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_started_and_done_by_its_types_alone() {
    with_database(|db| async move {
        let worker = db.spawn(
            db.worker()
                .state(Bank("north".into()))
                .job(CHARGE, charge)
                .job(PARENT, |ctx: StepContext, order: Order| async move { ctx.child_job(CHARGE, &order).await }),
        );
        let client = db.client().await;
        let order = Order { id: 7, cents: 1999 };
        let paid = Receipt { order: 7, bank: "north".into() };

        // The first start deploys the flow.
        let run = client.start_job(CHARGE, &order).await.unwrap();
        assert_eq!(within("the receipt", run.output()).await.unwrap(), paid);

        let once = |start: Start| start.unique("order-7", Unique::Forever);
        let first = client.start_job_with(CHARGE, &order, once).await.unwrap();
        let second = client.start_job_with(CHARGE, &order, once).await.unwrap();
        assert_eq!(first.id(), second.id());

        let run = client.start_job(PARENT, &order).await.unwrap();
        assert_eq!(within("the child", run.output()).await.unwrap(), paid);

        let all = client.start_jobs(CHARGE, (0..10).map(|id| Order { id, cents: 1 })).await.unwrap();
        assert_eq!((all.started.len(), all.refused.len()), (10, 0));
        worker.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_a_worker_does_not_have_is_named_in_the_error() {
    with_database(|db| async move {
        let client = db.client().await;
        client
            .deploy(&longhaul::Flow::new(CHARGE.name(), 1).step(CHARGE.step().retry(longhaul::Retry::never())))
            .await
            .unwrap();
        let worker = db.spawn(db.worker().job(CHARGE, charge));
        let run = client.start_job(CHARGE, &Order { id: 1, cents: 1 }).await.unwrap();
        let error = within("the end", run.output()).await.unwrap_err().to_string();
        assert!(error.contains("no state of type") && error.contains("jobs::Bank"), "{error}");
        worker.stop().await;
    })
    .await;
}

/// Adds its letter to the input on the way in, and to the output on the way out.
struct Letter(char);

impl Middleware for Letter {
    fn call<'a>(
        &'a self,
        context: StepContext,
        input: Payload,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, StepError>> {
        Box::pin(async move {
            let input = Payload::new(&format!("{}{}", input.read::<String>()?, self.0))?;
            let output = next.run(context, input).await?;
            Ok(Payload::new(&format!("{}{}", output.read::<String>()?, self.0))?)
        })
    }
}

/// Keeps handlers from being called.
struct Wall;

impl Middleware for Wall {
    fn call<'a>(&'a self, _: StepContext, _: Payload, _: Next<'a>) -> BoxFuture<'a, Result<Payload, StepError>> {
        Box::pin(async { Err(StepError::fail("no further").code("wall")) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn middleware_stands_around_each_attempt_in_the_order_in_which_it_was_added() {
    with_database(|db| async move {
        const ECHO: Job<String, String> = Job::new("echo");
        let client = db.client().await;
        let echo = |_: StepContext, text: String| async move { Ok::<_, StepError>(text + "|") };
        let worker = db.spawn(db.worker().middleware(Letter('a')).middleware(Letter('b')).job(ECHO, echo));
        let run = client.start_job(ECHO, &String::new()).await.unwrap();
        assert_eq!(within("the output", run.output()).await.unwrap(), "ab|ba");
        worker.stop().await;

        let worker = db.spawn(db.worker().middleware(Wall).job(ECHO, echo));
        let run = client.start_job(ECHO, &String::new()).await.unwrap();
        let ended = within("the end", run.wait(std::time::Duration::from_secs(30))).await.unwrap().unwrap();
        assert_eq!(ended.state, RunState::Failed);
        worker.stop().await;
    })
    .await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn what_a_handler_logs_names_its_run_and_step() {
    with_database(|db| async move {
        const TALK: Job<(), ()> = Job::new("talk");
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        // Of this thread, on which the test's runtime runs everything that it waits for.
        let _guard = tracing::subscriber::set_default(subscriber);
        let talk = |_: StepContext, (): ()| async move {
            tracing::info!("hello");
            Ok::<_, StepError>(())
        };
        let worker = db.spawn(db.worker().job(TALK, talk).handler("other", nothing));
        let client = db.client().await;
        let run = client.start_job(TALK, &()).await.unwrap();
        within("the end", run.output()).await.unwrap();
        worker.stop().await;

        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let line = log.lines().find(|line| line.ends_with("hello")).unwrap_or_else(|| panic!("it is logged: {log}"));
        let id = run.id();
        for field in
            [format!("run={id}"), "flow=talk".into(), "step=talk".into(), "attempt=1".into(), "handler=talk".into()]
        {
            assert!(line.contains(&field), "{field}: {line}");
        }
    })
    .await;
}

//! Named locks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use longhaul::{Error, lock::Locked};

use crate::harness::{eventually, with_database};

const HOLD: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn of_five_racing_resumes_one_runs_and_four_are_told_who_does() {
    with_database(|db| async move {
        let client = db.client().await;
        let name = longhaul::lock::phase_name(uuid::Uuid::now_v7(), "resume");
        let executions = Arc::new(AtomicUsize::new(0));
        let race = (0..5).map(|n| {
            let (database, name, executions) = (client.database().clone(), name.clone(), executions.clone());
            async move {
                let work = |_| async move {
                    executions.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                };
                database.run_locked(&name, &format!("caller {n}"), HOLD, work).await.unwrap()
            }
        });
        let outcomes = futures::future::join_all(race).await;
        assert_eq!(executions.load(Ordering::SeqCst), 1);
        let told: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        assert_eq!(told.len(), 4);
        assert!(told.iter().all(|answer| answer.holder.starts_with("caller ") && answer.holder == told[0].holder));
        let info = client.locks(false).await.unwrap().remove(0);
        assert_eq!((info.held, info.acquired, info.blocked), (false, 1, 4));
        let seconds: f64 = db.value("select held_seconds from longhaul.lock_figures where phase = 'resume'").await;
        assert!(seconds >= 0.3, "{seconds}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_given_back_on_errors_and_panics_and_expires_when_its_holder_is_gone() {
    with_database(|db| async move {
        let client = db.client().await;
        let free = || async { client.locks(true).await.unwrap().is_empty() };
        let guard = client.try_lock("a", "one", HOLD).await.unwrap().acquired().unwrap();
        drop(guard);
        eventually("it is given back", free).await;
        let panicking = client.clone();
        let panicked = tokio::spawn(async move {
            let _guard = panicking.try_lock("a", "two", HOLD).await.unwrap().acquired().unwrap();
            panic!("on purpose");
        });
        assert!(panicked.await.is_err());
        eventually("it is given back", free).await;

        // As after SIGKILL: nobody gives it back.
        let lost = client.try_lock("a", "three", HOLD).await.unwrap().acquired().unwrap();
        let old = lost.token();
        std::mem::forget(lost);
        assert!(matches!(client.try_lock("a", "four", HOLD).await.unwrap(), Locked::AlreadyRunning(a) if a.holder == "three" && a.token == old));
        db.execute("select longhaul.advance_clock('301 seconds')").await;
        let new = client.try_lock("a", "four", HOLD).await.unwrap().acquired().unwrap();
        assert!(new.token() > old, "tokens only grow");
        let calls = db.calls().await;
        assert!(!calls.release_lock("default", "a", old).await.unwrap(), "a former holder changes nothing");
        assert!(!calls.renew_lock("default", "a", old, HOLD).await.unwrap());
        assert!(new.renew(Duration::from_secs(600)).await.unwrap());
        db.execute("select longhaul.advance_clock('500 seconds')").await;
        assert!(client.try_lock("a", "five", HOLD).await.unwrap().acquired().is_none(), "renewed");
        assert!(new.release().await.unwrap());
        assert_eq!(client.locks(false).await.unwrap()[0].expired, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_locks_and_can_force_them_open_which_is_recorded() {
    with_database(|db| async move {
        let client = db.client().await;
        let guard = client.try_lock("a", "one", HOLD).await.unwrap().acquired().unwrap();
        assert_eq!(client.locks(true).await.unwrap()[0].holder.as_deref(), Some("one"));
        assert!(client.force_release_lock("a", Some("Ms Miller")).await.unwrap());
        assert!(!client.force_release_lock("a", None).await.unwrap());
        assert!(!guard.release().await.unwrap());
        let recorded: String = db.value("select kind || ' ' || holder || ' ' || actor from longhaul.lock_event").await;
        assert_eq!(recorded, "forced one Ms Miller");
        assert!(matches!(client.force_release_lock("nothing", None).await, Err(Error::NotFound(_))));
        assert!(matches!(client.try_lock("", "x", HOLD).await, Err(Error::Invalid(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_locks_are_held_at_once() {
    with_database(|db| async move {
        let client = db.client().await;
        let all = (0..1000).map(|n| {
            let client = client.clone();
            async move { client.try_lock(&format!("lock {n}"), "me", HOLD).await.unwrap().acquired().unwrap() }
        });
        let guards = futures::future::join_all(all).await;
        assert_eq!(client.locks(true).await.unwrap().len(), 1000);
        for released in futures::future::join_all(guards.into_iter().map(|guard| guard.release())).await {
            assert!(released.unwrap());
        }
        db.execute("select longhaul.advance_clock('40 days'); select longhaul.forget_locks()").await;
        assert!(client.locks(false).await.unwrap().is_empty());
    })
    .await;
}

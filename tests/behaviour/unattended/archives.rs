//! What retention must leave alone: runs that are to stand in an archive first, and children that their parents need.

use longhaul::{
    Flow, Step,
    calls::{RetentionPolicy, RunState},
};

use super::retention::{DAY, age, policy};
use crate::{harness::with_database, starting::play_worker};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_archives_is_deleted_only_by_who_has_written_it() {
    with_database(|db| async move {
        let client = db.client().await;
        for flow in ["kept", "free"] {
            db.deploy_single(flow, Step::new("a", "nobody")).await;
            for id in client.start_many(flow, 0..3).await.unwrap().ids() {
                client.run(id).stop().await.unwrap();
            }
        }
        age(&db).await;
        let calls = db.calls().await;
        let archived =
            RetentionPolicy { flow: Some("kept".into()), archive: true, ..policy("archived", None, 20 * DAY) };
        calls.put_retention_policy("default", &archived).await.unwrap();
        assert!(calls.list_retention_policies("default").await.unwrap()[0].archive);
        let plan = calls.retention_plan("default").await.unwrap();
        assert_eq!((plan[0].runs, plan[0].archive, plan[0].complete), (3, true, true));
        let retention = "select longhaul.run_retention()";
        assert_eq!(db.value::<i64>(retention).await, 0, "schedulers leave them alone");
        // Nor does a policy delete them that wants no archive and whose time comes sooner, nor go their partition.
        calls.put_retention_policy("default", &policy("all", None, DAY)).await.unwrap();
        assert_eq!(db.value::<i64>(retention).await, 3);
        assert_eq!(db.value::<i64>("select count(*) from longhaul.runs where flow = 'kept'").await, 3);
        assert!(!db.value::<bool>("select longhaul.droppable('longhaul.run')").await);

        let page = calls.retention_page("default", "archived", &Default::default(), true, 100).await.unwrap();
        assert_eq!((page.runs.len(), page.next), (3, None));
        let nothing = calls.retention_page("default", "archived", &Default::default(), false, 100).await.unwrap();
        assert!(nothing.runs.is_empty());
        assert_eq!(calls.delete_runs(&page.runs).await.unwrap(), 0, "whatever list is given");
        let written = calls.runs_to_archive(&page.runs).await.unwrap();
        let changed = client.run(page.runs[0]);
        changed.retry().await.unwrap();
        changed.stop().await.unwrap();
        assert_eq!(
            calls.delete_archived_runs(&written).await.unwrap(),
            2,
            "what was written, and not what has changed since"
        );
        assert_eq!(changed.get().await.unwrap().state, RunState::Cancelled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_stays_as_long_as_its_parent_lives() {
    with_database(|db| async move {
        let client = db.client().await;
        client.deploy(&Flow::new("leaf", 1).step(Step::new("a", "h"))).await.unwrap();
        let parent = Flow::new("parent", 1).step(Step::child("c", "leaf")).step(Step::new("b", "nobody").after("c"));
        client.deploy(&parent).await.unwrap();
        client.start("parent", &1).await.unwrap();
        let worker = play_worker(&db, &["h"]).await;
        db.execute(&format!(
            "with c as (select * from longhaul.claim({worker}, array['default'], array[10]))
             select longhaul.complete({worker}, array_agg(run_id), array_agg(seq), array_agg(attempt), array_agg('1'::jsonb)) from c"
        ))
        .await;
        age(&db).await;
        let calls = db.calls().await;
        calls.put_retention_policy("default", &policy("all", None, DAY)).await.unwrap();
        let child: uuid::Uuid = db.value("select id from longhaul.run where state = 'completed'").await;
        let parent: uuid::Uuid = db.value("select id from longhaul.run where state = 'running'").await;
        assert!(calls.retention_plan("default").await.unwrap().is_empty());
        assert_eq!(calls.delete_runs(&[child]).await.unwrap(), 0, "whatever list is given");
        assert!(!db.value::<bool>("select longhaul.droppable('longhaul.run')").await);
        client.run(parent).stop().await.unwrap();
        assert_eq!(calls.delete_runs(&[child]).await.unwrap(), 1);

        // A parent that somebody is at may be on its way back to life.
        let second: uuid::Uuid = db.value("select longhaul.start_run('leaf')").await;
        db.execute(&format!("update longhaul.run set parent_id = '{parent}' where id = '{second}'")).await;
        client.run(second).stop().await.unwrap();
        let mut connection = db.database.connection().await.unwrap();
        let busy = connection.transaction().await.unwrap();
        busy.execute("select from longhaul.run where id = $1 for no key update", &[&parent]).await.unwrap();
        assert_eq!(calls.delete_runs(&[second]).await.unwrap(), 0);
        busy.rollback().await.unwrap();
        assert_eq!(calls.delete_runs(&[parent, second]).await.unwrap(), 2, "both at once");
    })
    .await;
}

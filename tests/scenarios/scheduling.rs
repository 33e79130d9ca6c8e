//! The driver as scheduler: it does the chores that are due, each in a transaction of its own, and asks at rest what must hold then.

use serde_json::Value;

use crate::{
    driver::{Checked, Driver, finding, refused},
    server::ask,
};

/// Does all that is due in one round trip. Reports what handled or failed at something; gives up after 400 chores.
pub const PROCEDURE: &str = "
create schema rig;
create procedure rig.chores(inout report jsonb) language plpgsql as $$
declare
  v_done record;
begin
  report := '[]';
  for i in 1 .. 400 loop
    select * into v_done from longhaul.run_chore();
    commit;
    if v_done.chore_name is null then
      return;
    end if;
    if v_done.items <> 0 or v_done.failure is not null then
      report := report || jsonb_build_array(jsonb_build_array(v_done.chore_name, v_done.items, v_done.failure));
    end if;
  end loop;
  report := report || '[[\"no rest\", 0, null]]';
end $$";

impl Driver<'_> {
    /// All chores that are due.
    pub async fn chores(&mut self) -> Checked {
        self.due_chores().await?;
        self.collect().await?;
        if !self.is_quiet() {
            return Ok(());
        }
        // What came up meanwhile may have to wait for a chore that is due in a moment, and what check_floors() finds for a second one.
        for _ in 0..2 {
            match self.ask("quiet").await {
                Err(breach) if !breach.rule.starts_with("a chore sleeps") => {}
                asked => return asked,
            }
            self.server.admin("update longhaul.chore set next_at = longhaul.clock() where interval_ms <= 10000").await;
            self.due_chores().await?;
        }
        self.ask("quiet").await
    }

    async fn due_chores(&mut self) -> Checked {
        let client = self.connections.scheduler.clone();
        let rows = match ask(&client, "call rig.chores(null)").await {
            Ok(rows) => rows,
            Err(refusal) => return refused("run_chore", &refusal, false),
        };
        let report: Vec<(String, Option<i64>, Option<String>)> =
            serde_json::from_str::<Value>(rows[0][0].as_deref().unwrap_or("[]"))
                .and_then(serde_json::from_value)
                .expect("a report");
        for (name, items, failure) in report {
            self.log.push(format!(
                "/* scheduler */ select * from longhaul.run_chore();\n    -- {name} {items:?} {failure:?}"
            ));
            if name == "no rest" {
                return finding("chores find no rest", "after 400 of them");
            }
            if let Some(failure) = failure {
                let rule = format!("chore {name} fails with {}", sqlstate(&failure));
                if !self.except.iter().any(|known| rule.contains(known)) {
                    return finding(rule, failure);
                }
            }
        }
        Ok(())
    }
}

/// The SQLSTATE in what a chore says of its failure.
pub fn sqlstate(failure: &str) -> &str {
    failure.rsplit("SQLSTATE ").next().unwrap_or_default().trim_end_matches(')')
}

//! A past for the charts: throughput by the minute, as if this had run for hours.

use longhaul_scheduler::Client;

use super::Outcome;

/// Waves of work for the last six hours, with an outage of the payments in them.
pub(crate) async fn make_up(client: &Client) -> Outcome {
    let connection = client.database().connection().await?;
    connection
        .execute(
            "insert into longhaul.throughput_minute (at, queue_id, claimed, completed, failed, ready, oldest_ms)
             select date_trunc('minute', now()) - m * interval '1 minute', q.id, work.done + work.failed, work.done, work.failed, work.ready, work.oldest
             from longhaul.queue q
             cross join generate_series(2, 360) m
             cross join lateral (select case q.name when 'default' then 900 when 'mail' then 520 when 'payments' then 240 else 60 end as most) size
             cross join lateral (select m between 95 and 118 and q.name = 'payments' as outage) state
             cross join lateral (
               select (size.most * (0.6 + 0.25 * sin(m / 23.0) + 0.1 * sin(m / 3.1) + 0.12 * random()) * case when state.outage then 0.15 else 1 end)::bigint as done,
                 (size.most * case when state.outage then 0.3 else 0.012 * random() end)::bigint as failed,
                 (case when state.outage then 40 * (119 - m) else 6 + 30 * random() end)::bigint as ready,
                 (case when state.outage then 55000 * (119 - m) else 80 + 900 * random() end)::bigint as oldest) work
             on conflict do nothing",
            &[],
        )
        .await?;
    Ok(())
}

//! How `top` looks.

use std::cmp::Reverse;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line as Text, Span},
    widgets::{Cell, Paragraph, Row, Sparkline, Table},
};

use super::{
    figures::Figures,
    keys::{Does, Pane, View},
};
use crate::cli::{output::length, run_ref::short, terminal::safe};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, figures: &Figures, view: &mut View) {
    let [head, curve, tabs, table, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(figures)), head);
    draw_curve(frame, figures, curve);
    frame.render_widget(Paragraph::new(titles(view)), tabs);
    match view.pane {
        Pane::Queues => queues(frame, figures, view, table),
        Pane::Workers => workers(frame, figures, view, table),
        Pane::Steps => steps(frame, figures, view, table),
        Pane::Failures => failures(frame, figures, view, table),
    }
    frame.render_widget(Paragraph::new(footer(view)), foot);
}

fn coloured(text: impl Into<String>, colour: Color) -> Span<'static> {
    // Who asked for no colours is given none.
    let style = if std::env::var_os("NO_COLOR").is_some() { Style::default() } else { Style::default().fg(colour) };
    Span::styled(text.into(), style)
}

fn heading(figures: &Figures) -> Vec<Text<'static>> {
    let (ready, running, slots) = figures.sums();
    let (completed, failed) = figures.pace();
    let oldest = figures.oldest().map_or("none".into(), |since| length(since, figures.now));
    vec![
        Text::from(vec![
            Span::styled("longhaul top", Style::default().add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {}  {}", safe(&figures.target), crate::cli::output::time(figures.now))),
        ]),
        Text::from(vec![
            Span::raw(format!("ready {ready}  running {running}/{slots}  workers {}  ", figures.workers.len())),
            coloured(format!("completed {completed:.1}/s  "), Color::Green),
            coloured(format!("failed {failed:.1}/s  "), if failed > 0.0 { Color::Red } else { Color::Reset }),
            Span::raw(format!("oldest ready {oldest}")),
        ]),
    ]
}

fn draw_curve(frame: &mut Frame<'_>, figures: &Figures, area: Rect) {
    // Tenths, so that slow queues have a curve as well.
    let all: Vec<u64> = figures.curve.iter().map(|pace| (pace * 10.0) as u64).collect();
    let from = all.len().saturating_sub(usize::from(area.width));
    frame.render_widget(Sparkline::default().data(&all[from..]).style(Style::default().fg(Color::Green)), area);
}

fn titles(view: &View) -> Text<'static> {
    let tabs = Pane::ALL.into_iter().flat_map(|pane| {
        let style =
            if pane == view.pane { Style::default().add_modifier(Modifier::REVERSED) } else { Style::default() };
        [Span::styled(format!(" {} ", pane.title()), style), Span::raw(" ")]
    });
    let sorted = view.pane.sorts()[view.sort()];
    Text::from_iter(tabs.chain([coloured(format!("by {sorted}"), Color::DarkGray)]))
}

fn footer(view: &View) -> Text<'static> {
    match (&view.question, &view.trouble, &view.message) {
        (Some(Does::Pause(queue)), ..) => {
            Text::from(coloured(format!("Pause queue {}? [y/N]", safe(queue)), Color::Yellow))
        }
        (Some(Does::Resume(queue)), ..) => {
            Text::from(coloured(format!("Let queue {} go on? [y/N]", safe(queue)), Color::Yellow))
        }
        (_, Some(trouble), _) => Text::from(coloured(format!("old figures: {}", safe(trouble)), Color::Red)),
        (.., Some(message)) => Text::from(safe(message).into_owned()),
        _ => Text::from(coloured("Tab pane  ↑↓ choose  s sort  p pause  q leave", Color::DarkGray)),
    }
}

fn table(
    frame: &mut Frame<'_>,
    view: &mut View,
    area: Rect,
    header: &[&'static str],
    widths: &[Constraint],
    rows: Vec<Row<'static>>,
) {
    let header = Row::new(header.to_vec()).style(Style::default().add_modifier(Modifier::DIM));
    let table = Table::new(rows, widths)
        .header(header)
        .column_spacing(2)
        .row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut view.chosen);
}

/// In which order the queues stand.
pub(super) fn queue_order(figures: &Figures, sort: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..figures.queues.len()).collect();
    let line = |at: &usize| &figures.queues[*at];
    let tenths = |pace: Option<f64>| Reverse((pace.unwrap_or_default() * 10.0) as i64);
    match sort {
        1 => order.sort_by_key(|at| Reverse(line(at).queue.ready)),
        2 => order.sort_by_key(|at| line(at).queue.oldest_ready_at.map_or((1, figures.now), |since| (0, since))),
        3 => order.sort_by_key(|at| tenths(line(at).completed)),
        4 => order.sort_by_key(|at| tenths(line(at).failed)),
        _ => {}
    }
    order
}

fn queues(frame: &mut Frame<'_>, figures: &Figures, view: &mut View, area: Rect) {
    let pace = |pace: Option<f64>| pace.map(|pace| format!("{pace:.1}")).unwrap_or_default();
    let rows = queue_order(figures, view.sort()).into_iter().map(|at| {
        let line = &figures.queues[at];
        let queue = &line.queue;
        let state = match queue.paused_at {
            Some(_) => coloured("paused", Color::Yellow),
            None if queue.ready > 0 && queue.workers == 0 => coloured("no worker", Color::Red),
            None => coloured("active", Color::Green),
        };
        Row::new(vec![
            Cell::from(safe(&queue.queue).into_owned()),
            Cell::from(state),
            Cell::from(queue.ready.to_string()),
            Cell::from(queue.oldest_ready_at.map(|since| length(since, figures.now)).unwrap_or_default()),
            Cell::from(format!("{}/{}", queue.running, queue.slots)),
            Cell::from(pace(line.completed)),
            Cell::from(pace(line.failed)),
        ])
    });
    let header = ["QUEUE", "STATE", "READY", "OLDEST", "RUNNING", "DONE/s", "FAIL/s"];
    let fixed = [9, 7, 8, 9, 7, 6].map(Constraint::Length);
    let widths: Vec<Constraint> = std::iter::once(Constraint::Min(12)).chain(fixed).collect();
    table(frame, view, area, &header, &widths, rows.collect());
}

fn workers(frame: &mut Frame<'_>, figures: &Figures, view: &mut View, area: Rect) {
    let mut sorted: Vec<_> = figures.workers.iter().collect();
    match view.sort() {
        1 => sorted.sort_by(|a, b| a.name.cmp(&b.name)),
        2 => sorted.sort_by_key(|worker| Reverse(worker.running)),
        3 => sorted.sort_by_key(|worker| worker.heartbeat_at),
        _ => {}
    }
    let rows = sorted.into_iter().map(|worker| {
        let state = match worker.state.as_str() {
            _ if worker.expires_at <= figures.now => coloured("overdue", Color::Red),
            "draining" => coloured("draining", Color::Yellow),
            other => coloured(other, Color::Green),
        };
        Row::new(vec![
            Cell::from(worker.id.to_string()),
            Cell::from(safe(&worker.name).into_owned()),
            Cell::from(state),
            Cell::from(worker.running.to_string()),
            Cell::from(length(worker.heartbeat_at, figures.now)),
            Cell::from(safe(&worker.queues.join(", ")).into_owned()),
        ])
    });
    let widths = [16, 16, 8, 6, 8].map(Constraint::Length).into_iter().chain([Constraint::Min(8)]).collect::<Vec<_>>();
    table(frame, view, area, &["ID", "NAME", "STATE", "HOLDS", "SEEN", "QUEUES"], &widths, rows.collect());
}

fn steps(frame: &mut Frame<'_>, figures: &Figures, view: &mut View, area: Rect) {
    let mut sorted: Vec<_> = figures.leases.iter().collect();
    match view.sort() {
        1 => sorted.sort_by_key(|lease| lease.run_id),
        2 => sorted.sort_by(|a, b| a.worker.cmp(&b.worker)),
        _ => {}
    }
    let rows = sorted.into_iter().map(|lease| {
        Row::new(vec![
            Cell::from(short(lease.run_id)),
            Cell::from(safe(&lease.step).into_owned()),
            Cell::from(lease.attempt.to_string()),
            Cell::from(length(lease.claimed_at, figures.now)),
            Cell::from(safe(lease.worker.as_deref().unwrap_or_default()).into_owned()),
        ])
    });
    let widths = [
        Constraint::Length(13),
        Constraint::Min(12),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(20),
    ];
    table(frame, view, area, &["RUN", "STEP", "ATTEMPT", "FOR", "WORKER"], &widths, rows.collect());
}

fn failures(frame: &mut Frame<'_>, figures: &Figures, view: &mut View, area: Rect) {
    let mut sorted: Vec<_> = figures.failures.iter().collect();
    if view.sort() == 1 {
        sorted.sort_by(|a, b| a.flow.cmp(&b.flow));
    }
    let rows = sorted.into_iter().map(|failed| {
        Row::new(vec![
            Cell::from(short(failed.run_id)),
            Cell::from(safe(&failed.flow).into_owned()),
            Cell::from(safe(&failed.step).into_owned()),
            Cell::from(length(failed.died_at, figures.now)),
            Cell::from(safe(failed.error.as_deref().unwrap_or_default()).into_owned()),
        ])
    });
    let widths = [
        Constraint::Length(13),
        Constraint::Length(14),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Min(10),
    ];
    table(frame, view, area, &["RUN", "FLOW", "STEP", "AGO", "ERROR"], &widths, rows.collect());
}

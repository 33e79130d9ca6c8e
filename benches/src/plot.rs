//! Pictures of figures.

use std::path::Path;

use plotters::prelude::*;

use crate::{
    bench::Outcome,
    report::{Row, Target},
};

const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];

/// Lines over time or over what was done.
pub fn rates(file: &Path, caption: &str, lines: &[(&str, &[(f64, f64)])]) -> Outcome<()> {
    let root = SVGBackend::new(file, (900, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let end = lines.iter().flat_map(|l| l.1).map(|p| p.0).fold(0.0, f64::max);
    let top = lines.iter().flat_map(|l| l.1).map(|p| p.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..end, 0.0..top * 1.1)?;
    chart.configure_mesh().draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}

/// How far each figure is from its target: 1 is the target, longer is better.
pub fn ratios(file: &Path, rows: &[Row]) -> Outcome<()> {
    let bars: Vec<(String, f64)> = rows
        .iter()
        .filter_map(|row| {
            let ratio = match row.target? {
                Target::AtLeast(least) => row.value / least,
                Target::AtMost(most) => most / row.value.max(most / 100.0),
            };
            Some((format!("{} {}", row.id, row.what), ratio))
        })
        .collect();
    let height = 60 + 26 * bars.len() as u32;
    let root = SVGBackend::new(file, (1000, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = ("sans-serif", 13).into_font();
    root.draw(&Text::new("Figures beside their targets (the line is the target)", (10, 10), ("sans-serif", 18)))?;
    const LEFT: i32 = 470;
    const WIDTH: f64 = 480.0;
    for (place, (name, ratio)) in bars.iter().enumerate() {
        let y = 44 + 26 * place as i32;
        let length = ((ratio.min(3.0) / 3.0) * WIDTH) as i32;
        let colour = if *ratio >= 1.0 { COLOURS[2] } else { COLOURS[1] };
        root.draw(&Text::new(name.clone(), (10, y), text.clone()))?;
        root.draw(&Rectangle::new([(LEFT, y), (LEFT + length.max(1), y + 16)], colour.filled()))?;
        root.draw(&Text::new(format!("{ratio:.2}"), (LEFT + length + 6, y), text.clone()))?;
    }
    let target = LEFT + (WIDTH / 3.0) as i32;
    root.draw(&PathElement::new([(target, 36), (target, height as i32 - 10)], BLACK))?;
    root.present()?;
    Ok(())
}

/// Slots and running steps over time, under the steps that wait.
pub fn waves(file: &Path, points: &[(f64, f64, f64, f64)]) -> Outcome<()> {
    let root = SVGBackend::new(file, (900, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let end = points.last().map_or(1.0, |p| p.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("Slots between 4 and 256, three waves of 3,000 steps of 50 ms", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .right_y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..280.0)?
        .set_secondary_coord(0.0..end, 0.0..3300.0);
    chart.configure_mesh().x_desc("seconds").y_desc("slots, running").draw()?;
    chart.configure_secondary_axes().y_desc("steps that wait").draw()?;
    let grey = RGBColor(200, 200, 200);
    chart
        .draw_secondary_series(AreaSeries::new(points.iter().map(|p| (p.0, p.3)), 0.0, grey.mix(0.5)))?
        .label("waiting")
        .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 16, y + 4)], grey));
    for (name, colour, value) in [("slots", BLUE, 0), ("running", RED, 1)] {
        let line = points.iter().map(|p| (p.0, if value == 0 { p.1 } else { p.2 }));
        chart
            .draw_series(LineSeries::new(line, &colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}

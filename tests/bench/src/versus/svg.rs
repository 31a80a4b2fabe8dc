//! Draws bar charts as SVG, one below the other, with the values as text.

use std::fmt::Write as _;

/// A chart.
pub struct Chart {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// A bar of a chart; without a value only its name is drawn.
pub struct Bar {
    pub name: &'static str,
    pub value: Option<f64>,
    pub is_own: bool,
}

const WIDTH: f64 = 900.0;
const NAMES: f64 = 300.0;
const VALUES: f64 = 90.0;
const LINE: f64 = 22.0;
const MARGIN: f64 = 16.0;

/// Draws charts above a line that names the machine.
pub fn draw(charts: &[Chart], machine: &str) -> String {
    let lines: usize = charts.iter().map(|chart| chart.bars.len() + 2).sum();
    let height = MARGIN * 2.0 + LINE * (lines + 1) as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut y = MARGIN + LINE;
    for chart in charts {
        line(&mut text, MARGIN, y, "start", "bold", &chart.title);
        y += LINE;
        let greatest = chart.bars.iter().filter_map(|bar| bar.value).fold(1.0, f64::max);
        for bar in &chart.bars {
            line(&mut text, NAMES - 8.0, y, "end", "normal", bar.name);
            if let Some(value) = bar.value {
                let width = (WIDTH - NAMES - VALUES - MARGIN) * value / greatest;
                let colour = if bar.is_own { "#1f6feb" } else { "#9aa4b2" };
                let top = y - LINE * 0.7;
                writeln!(
                    text,
                    "<rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                    LINE * 0.8
                )
                .expect("a String takes any text");
                line(&mut text, NAMES + width + 6.0, y, "start", "normal", &format!("{value:.0}"));
            } else {
                line(&mut text, NAMES, y, "start", "normal", "did not finish");
            }
            y += LINE;
        }
        y += LINE;
    }
    line(&mut text, MARGIN, y, "start", "normal", machine);
    text.push_str("</svg>\n");
    text
}

fn line(text: &mut String, x: f64, y: f64, anchor: &str, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{words}</text>")
        .expect("a String takes any text");
}

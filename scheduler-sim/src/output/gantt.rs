//! A picture of a run: SVG that needs nothing else. A lane for each processor, coloured by code; the critical path outlined in red and joined by a line; time without work
//! hatched by cause; a lane for each pair of memory spaces between which something travels.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Cause, Idle, Run, Transfer, time};

/// The width of the time axis, in pixels.
const WIDTH: f64 = 1400.0;
/// The room for the names of lanes.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 30.0;
/// So many processors, and so many lanes of transfers, are drawn.
const MOST_PROCESSORS: usize = 512;
const MOST_TRANSFER_LANES: usize = 48;
/// So many codes have a line in the legend.
const MOST_CODES: usize = 24;
/// From so many tasks or transfers on those that are narrower than a fraction of a pixel are drawn together.
const MANY: usize = 20_000;
const NARROW: f64 = 0.35;
/// How a transfer looks.
const TRANSFER: &str = "fill=\"#00796b\" fill-opacity=\"0.5\"";

/// Slices that lie on top of each other get lanes of their own.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    ends_ns: Vec<u64>,
}

impl Lanes {
    /// The lane for what comes next, by beginning, and whether it is a new one.
    pub(super) fn put(&mut self, start_ns: u64, end_ns: u64) -> (usize, bool) {
        match self.ends_ns.iter().position(|end| *end <= start_ns) {
            Some(lane) => {
                self.ends_ns[lane] = end_ns;
                (lane, false)
            }
            None => {
                self.ends_ns.push(end_ns);
                (self.ends_ns.len() - 1, true)
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends_ns.len()
    }
}

/// Parts that are too narrow to be seen alone: those that follow each other closely are drawn as one.
struct Narrow {
    place: (f64, f64),
    attributes: &'static str,
    what: &'static str,
    /// From when to when, and how many.
    run: Option<((u64, u64), usize)>,
}

impl Narrow {
    fn put(&mut self, drawing: &mut Drawing, (start_ns, end_ns): (u64, u64)) {
        match &mut self.run {
            Some((times, count)) if drawing.x(start_ns) - drawing.x(times.1) < NARROW => {
                (times.1, *count) = (times.1.max(end_ns), *count + 1);
            }
            _ => {
                self.flush(drawing);
                self.run = Some(((start_ns, end_ns), 1));
            }
        }
    }

    fn flush(&mut self, drawing: &mut Drawing) {
        if let Some((times, count)) = self.run.take() {
            drawing.bar(times, self.place, format_args!("{}", self.attributes), &format!("{count} {}", self.what));
        }
    }
}

/// The drawing as it grows.
struct Drawing {
    text: String,
    makespan_ns: u64,
    /// Where the next lane begins.
    top: f64,
}

impl Drawing {
    fn add(&mut self, part: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{part}");
    }

    fn x(&self, at_ns: u64) -> f64 {
        LEFT + at_ns as f64 / self.makespan_ns.max(1) as f64 * WIDTH
    }

    /// A rectangle from one time to another, with words for whoever points at it.
    fn bar(&mut self, (start_ns, end_ns): (u64, u64), (top, height): (f64, f64), attributes: std::fmt::Arguments<'_>, words: &str) {
        let (left, right) = (self.x(start_ns), self.x(end_ns));
        let width = (right - left).max(0.2);
        let words = escaped(words);
        self.add(format_args!(
            "<rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {attributes}><title>{words}</title></rect>"
        ));
    }

    fn lane_name(&mut self, name: &str, height: f64) {
        let (x, y, size) = (LEFT - 8.0, self.top + height * 0.5, height.mul_add(0.6, 1.0).clamp(4.0, 12.0));
        let name = escaped(&shortened(name, 22));
        self.add(format_args!(
            "<text x=\"{x}\" y=\"{y:.2}\" font-size=\"{size:.1}\" text-anchor=\"end\" dominant-baseline=\"central\">{name}</text>"
        ));
    }
}

/// The picture.
#[must_use]
pub fn gantt(run: &Run<'_>) -> String {
    let Run { problem, schedule, causes, .. } = *run;
    let makespan_ns = schedule.makespan_ns();
    let processors = problem.processor_count().min(MOST_PROCESSORS);
    let height = match processors {
        0..=32 => 26.0,
        33..=128 => 14.0,
        _ => 7.0,
    };
    let mut drawing = Drawing { text: String::new(), makespan_ns, top: 78.0 };
    let axis_top = drawing.top;
    let bar_height = height * 0.84;
    for processor in 0..processors {
        draw_processor(run, &mut drawing, processor, bar_height);
        drawing.top += height;
    }
    if processors < problem.processor_count() {
        drawing.top += 12.0;
        drawing.lane_name(&format!("… {} more", problem.processor_count() - processors), 10.0);
    }
    draw_critical(run, &mut drawing, |processor| (processor < processors).then_some(axis_top + processor as f64 * height), bar_height);
    draw_transfers(run, &mut drawing, height.min(18.0));
    let axis_bottom = drawing.top + 4.0;
    draw_axis(&mut drawing, axis_top, axis_bottom);
    drawing.top += 34.0;
    draw_legend(run, &mut drawing);
    let (width, height) = (LEFT + WIDTH + RIGHT, drawing.top + 12.0);
    let title = escaped(&format!("{} by {}", problem.workload().name(), run.policy));
    let wait = |cause: Cause| time(causes.critical_wait_ns(cause));
    let facts = escaped(&format!(
        "{} tasks on {} processors in {}; critical path of {} tasks, with waits of {} for data and {} as the policy wanted",
        problem.len(),
        problem.processor_count(),
        time(makespan_ns),
        causes.critical().len(),
        wait(Cause::Data),
        wait(Cause::Policy)
    ));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height:.0}\" viewBox=\"0 0 {width} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n{PATTERNS}\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{title}</text>\n<text x=\"16\" y=\"46\" fill=\"#444\">{facts}</text>\n{}</svg>\n",
        drawing.text
    )
}

/// How time without work looks, by cause.
const PATTERNS: &str = "<defs>\
<pattern id=\"data\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#fff3e0\"/><rect width=\"2\" height=\"6\" fill=\"#ffa726\"/></pattern>\
<pattern id=\"policy\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\"><rect width=\"6\" height=\"6\" fill=\"#f8e6f8\"/><rect width=\"2\" height=\"6\" fill=\"#ba68c8\"/></pattern>\
</defs>";

fn fill(idle: Idle) -> &'static str {
    match idle {
        Idle::NoReadyWork => "#ececec",
        Idle::Data => "url(#data)",
        Idle::Policy => "url(#policy)",
    }
}

/// Hues a golden angle apart: however many there are, neighbours differ.
fn colour(code: usize) -> String {
    format!("hsl({:.0},{}%,{}%)", (200.0 + code as f64 * 137.508) % 360.0, 50 + code % 3 * 10, 62 + code % 2 * 8)
}

fn draw_processor(run: &Run<'_>, drawing: &mut Drawing, processor: usize, height: f64) {
    let Run { problem, schedule, causes, .. } = *run;
    let workload = problem.workload();
    let place = (drawing.top, height);
    drawing.lane_name(problem.processor_name(processor), height);
    let first = causes.gaps().partition_point(|gap| gap.processor < processor);
    for gap in causes.gaps()[first..].iter().take_while(|gap| gap.processor == processor) {
        if drawing.x(gap.end_ns) - drawing.x(gap.start_ns) >= NARROW {
            let words =
                format!("{}: no task, for {} ({})", problem.processor_name(processor), time(gap.end_ns - gap.start_ns), gap.idle.name());
            drawing.bar((gap.start_ns, gap.end_ns), place, format_args!("fill=\"{}\"", fill(gap.idle)), &words);
        }
    }
    let has_many = problem.len() >= MANY;
    let mut narrow = Narrow { place, attributes: "fill=\"#8a9199\"", what: "tasks", run: None };
    for &task in causes.lane(processor) {
        let times @ (start_ns, end_ns) = (schedule.start_ns[task], schedule.end_ns[task]);
        let width = drawing.x(end_ns) - drawing.x(start_ns);
        if has_many && width < NARROW {
            narrow.put(drawing, times);
            continue;
        }
        narrow.flush(drawing);
        let (name, code) = (workload.task_name(task), workload.code(task) as usize);
        let step = causes.step(task);
        let words = format!(
            "{name} ({}) on {}: {} from {}; {}{}",
            workload.code_names()[code],
            problem.processor_name(processor),
            time(end_ns - start_ns),
            time(start_ns),
            match step.cause {
                Cause::Begin => "it began with the run",
                Cause::Dependency => "it needs ",
                Cause::Data => "it waited for data after ",
                Cause::Processor => "its processor ran ",
                Cause::Policy => "the policy let it wait after ",
            },
            step.after.map_or("", |after| workload.task_name(after))
        );
        // Seams between tasks where there is room for them.
        let seam = if width > 3.0 { "stroke=\"#fff\" stroke-width=\"0.6\"" } else { "" };
        drawing.bar(times, place, format_args!("fill=\"{}\" {seam}", colour(code)), &words);
        let fits = (width / 7.0) as usize;
        if fits >= 4 && height >= 11.0 {
            let (x, y) = (drawing.x(start_ns) + width * 0.5, place.0 + height * 0.5);
            let name = escaped(&shortened(name, fits));
            drawing.add(format_args!(
                "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"10.5\" text-anchor=\"middle\" dominant-baseline=\"central\" pointer-events=\"none\">{name}</text>"
            ));
        }
    }
    narrow.flush(drawing);
}

/// A line along the critical path, and a frame around its tasks.
fn draw_critical(run: &Run<'_>, drawing: &mut Drawing, top_of: impl Fn(usize) -> Option<f64>, height: f64) {
    let Run { schedule, causes, .. } = *run;
    let (mut points, mut frames) = (String::new(), String::new());
    for &task in causes.critical() {
        let Some(top) = top_of(schedule.processor[task] as usize) else { continue };
        let middle = top + height * 0.5;
        let (left, right) = (drawing.x(schedule.start_ns[task]), drawing.x(schedule.end_ns[task]));
        // Writing to a string does not fail.
        let _ = write!(points, "{left:.2},{middle:.2} {right:.2},{middle:.2} ");
        let width = right - left;
        if width >= 2.0 {
            let _ = write!(frames, "M{left:.2} {top:.2}h{width:.2}v{height:.2}h-{width:.2}z");
        }
    }
    drawing.add(format_args!(
        "<g fill=\"none\" stroke=\"#c62828\" pointer-events=\"none\"><polyline points=\"{}\" stroke-opacity=\"0.75\"/><path d=\"{frames}\" stroke-width=\"1.6\"/></g>",
        points.trim_end()
    ));
}

/// Lanes for what travels: one for each pair of spaces, or for each space that something goes to if there are too many pairs.
fn draw_transfers(run: &Run<'_>, drawing: &mut Drawing, height: f64) {
    let Run { problem, causes, .. } = *run;
    let mut lanes: BTreeMap<(usize, usize), Vec<&Transfer>> = BTreeMap::new();
    causes.transfers().iter().for_each(|transfer| lanes.entry((transfer.to, transfer.from)).or_default().push(transfer));
    let by_pair = lanes.len() <= MOST_TRANSFER_LANES;
    if !by_pair {
        let mut merged: BTreeMap<(usize, usize), Vec<&Transfer>> = BTreeMap::new();
        lanes.into_iter().for_each(|((to, _), transfers)| merged.entry((to, to)).or_default().extend(transfers));
        lanes = merged;
    }
    if lanes.is_empty() {
        return;
    }
    drawing.top += 14.0;
    let has_many = causes.transfers().len() >= MANY;
    let hidden = lanes.len().saturating_sub(MOST_TRANSFER_LANES);
    for ((to, from), mut transfers) in lanes.into_iter().take(MOST_TRANSFER_LANES) {
        let (to, from) = (problem.space_name(to), problem.space_name(from));
        drawing.lane_name(&if by_pair { format!("{from} → {to}") } else { format!("→ {to}") }, height);
        let place = (drawing.top, height * 0.8);
        let mut narrow = Narrow { place, attributes: TRANSFER, what: "transfers", run: None };
        transfers.sort_by_key(|transfer| (transfer.start_ns, transfer.edge));
        for transfer in transfers {
            let times = (transfer.start_ns, transfer.end_ns);
            if has_many && drawing.x(times.1) - drawing.x(times.0) < NARROW {
                narrow.put(drawing, times);
                continue;
            }
            let workload = problem.workload();
            let (source, target) = (workload.task_name(transfer.source), workload.task_name(transfer.target));
            let words = format!(
                "{source} to {target}: {} bytes, {} from {}",
                workload.bytes(transfer.edge),
                time(times.1 - times.0),
                time(times.0)
            );
            drawing.bar(times, place, format_args!("{TRANSFER}"), &words);
        }
        narrow.flush(drawing);
        drawing.top += height;
    }
    if hidden > 0 {
        drawing.lane_name(&format!("… {hidden} more"), 10.0);
        drawing.top += 12.0;
    }
}

fn draw_axis(drawing: &mut Drawing, top: f64, bottom: f64) {
    // The least of 1, 2 and 5 times a power of ten that gives no more than ten marks.
    let mut step_ns = 1_u64;
    for factor in [2, 5, 10].into_iter().cycle() {
        if drawing.makespan_ns / step_ns <= 10 {
            break;
        }
        // 1, 2, 5, 10: the power of ten that it is at, times the factor.
        let power = 10_u64.pow(step_ns.ilog10());
        let Some(next) = power.checked_mul(factor) else { break };
        step_ns = next;
    }
    let mut at_ns = 0_u64;
    while at_ns <= drawing.makespan_ns {
        let (x, words) = (drawing.x(at_ns), if at_ns == 0 { "0".to_owned() } else { time(at_ns) });
        drawing.add(format_args!(
            "<path d=\"M{x:.2} {top:.2}V{bottom:.2}\" stroke=\"#000\" stroke-opacity=\"0.13\"/><text x=\"{x:.2}\" y=\"{:.2}\" fill=\"#555\" font-size=\"11\" text-anchor=\"middle\">{words}</text>",
            top - 6.0
        ));
        let Some(next) = at_ns.checked_add(step_ns) else { break };
        at_ns = next;
    }
}

/// What colours and patterns mean, in columns.
fn draw_legend(run: &Run<'_>, drawing: &mut Drawing) {
    let workload = run.problem.workload();
    let codes = workload.code_names();
    let mut entries: Vec<(String, String)> =
        codes.iter().take(MOST_CODES).enumerate().map(|(code, name)| (format!("fill=\"{}\"", colour(code)), shortened(name, 34))).collect();
    if codes.len() > MOST_CODES {
        entries.push(("fill=\"none\"".into(), format!("… {} codes more", codes.len() - MOST_CODES)));
    }
    for idle in Idle::ALL {
        let share = |ns: u64| {
            let all = drawing.makespan_ns as f64 * run.problem.processor_count() as f64;
            if all == 0.0 { 0.0 } else { ns as f64 / all * 100.0 }
        };
        let words = match idle {
            Idle::NoReadyWork => "no task was ready",
            Idle::Data => "waiting for data",
            Idle::Policy => "as the policy wanted",
        };
        entries.push((format!("fill=\"{}\"", fill(idle)), format!("{words}: {:.1} %", share(run.causes.idle_ns(idle)))));
    }
    entries.push(("fill=\"none\" stroke=\"#c62828\" stroke-width=\"1.6\"".into(), "critical path".into()));
    if !run.causes.transfers().is_empty() {
        entries.push((TRANSFER.into(), "transfer".into()));
    }
    const COLUMNS: usize = 6;
    for (index, (attributes, words)) in entries.iter().enumerate() {
        let x = LEFT + (index % COLUMNS) as f64 * (WIDTH / COLUMNS as f64);
        let y = drawing.top + (index / COLUMNS) as f64 * 20.0;
        let words = escaped(words);
        drawing.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"16\" height=\"12\" {attributes}/><text x=\"{:.1}\" y=\"{y:.1}\" dominant-baseline=\"central\">{words}</text>",
            y - 6.0,
            x + 22.0
        ));
    }
    drawing.top += entries.len().div_ceil(COLUMNS) as f64 * 20.0;
}

/// At most so many characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}

/// Text as it stands in XML, which has no room for most control characters at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::with_runs;
    use crate::output::{Causes, Run};
    use crate::plan::planner;
    use crate::platform::Platform;
    use crate::problem::Problem;
    use crate::workload::Generate;

    #[test]
    fn it_is_xml_with_a_bar_for_each_task_gap_and_transfer() {
        with_runs(|run| {
            let text = gantt(run);
            let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let titles: Vec<&str> =
                document.descendants().filter(|node| node.has_tag_name("title")).filter_map(|node| node.text()).collect();
            assert_eq!(titles[0], format!("a <&> \"b\"\u{fffd} by {}", run.policy));
            for said in ["first, <one> (co\"de&) on p", ": 2.00 s from 0 ns; it began with the run", ": no task, for ", " to third: "] {
                assert!(titles.iter().any(|title| title.contains(said)), "no {said} in {titles:?}");
            }
            // One for the document, three tasks, and gaps and transfers.
            assert_eq!(titles.len(), 4 + run.causes.gaps().len() + run.causes.transfers().len());
            assert!(text.contains("critical path") && text.contains("no task was ready"));
        });
    }

    #[test]
    fn many_tasks_and_many_processors_and_none_are_drawn() {
        let check = |text: &str, processors: usize, most_bytes: usize| {
            let (workload, platform) =
                (Generate::parse(text).unwrap().workload(), Platform::of_speeds(&vec![1.0; processors], Some(1e9)).unwrap());
            let problem = Problem::new(&workload, &platform);
            let schedule = (planner("mct").unwrap().plan)(&problem);
            let causes = Causes::new(&problem, &schedule, None);
            let text = gantt(&Run { problem: &problem, policy: "mct", schedule: &schedule, decisions: None, causes: &causes });
            roxmltree::Document::parse_with_options(&text, roxmltree::ParsingOptions { nodes_limit: u32::MAX, ..Default::default() })
                .unwrap();
            assert!(text.len() < most_bytes, "{} bytes", text.len());
        };
        check("independent:60000", 2, 10_000_000);
        check("layered:3000,ccr=1", 700, 10_000_000);
        check("layered:30000,ccr=0.001", 4, 10_000_000);
        check("chain:1", 1, 10_000);
    }

    #[test]
    fn lanes_are_as_many_as_lie_on_top_of_each_other() {
        let mut lanes = Lanes::default();
        let put: Vec<_> =
            [(0, 10), (5, 15), (10, 12), (12, 13), (12, 20)].into_iter().map(|(start, end)| lanes.put(start, end).0).collect();
        assert_eq!((put, lanes.len()), (vec![0, 1, 0, 0, 2], 3));
    }
}

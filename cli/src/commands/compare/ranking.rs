//! Policies in order, with what is known about the order.

use std::time::Duration;

use poniard_scheduler_sim::statistics::{Comparison, Pair, Unit, compare, holm};
use serde_json::{Value, json};

use super::cells::Cells;
use super::results::Record;
use crate::report::{counted, duration, size};

/// A probability below this is no accident.
const SIGNIFICANT: f64 = 0.05;

/// A policy with all that is said about it.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) policy: &'a str,
    pub(super) is_baseline: bool,
    comparison: Comparison,
    /// The probability, corrected for the number of policies.
    p: Option<f64>,
    /// In how many cells it ran that the baseline ran in, too.
    cells: u64,
    /// By which share it is above the lower bound, in the mean.
    gap: Option<f64>,
    utilisation: f64,
    moved_bytes: u64,
    /// How long a plan, or a run of a live policy, took on this machine, in the mean over those that were run now.
    took: Option<Duration>,
    is_planner: bool,
}

/// The policies, the best first; equal ones as they were typed.
pub(super) fn ranked<'a>(cells: &'a Cells, records: &[Option<Record>], took: &[Option<Duration>]) -> Vec<Row<'a>> {
    let baselines = |policy: usize| -> Vec<(usize, usize)> {
        // Cells that belong together follow each other.
        let groups = cells.all.chunk_by(|one, other| (one.instance, one.machine, one.seed) == (other.instance, other.machine, other.seed));
        let mut first = 0;
        let mut pairs = Vec::new();
        for group in groups {
            let at = |policy: usize| group.iter().position(|cell| cell.policy == policy).map(|offset| first + offset);
            pairs.extend(at(policy).zip(at(cells.baseline)));
            first += group.len();
        }
        pairs
    };
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (policy, decider) in cells.deciders.iter().enumerate() {
        let known = || {
            let own = cells.all.iter().enumerate().filter(move |(_, cell)| cell.policy == policy);
            own.filter_map(|(index, _)| records[index].as_ref())
        };
        let pairs: Vec<Pair> = baselines(policy)
            .into_iter()
            .filter_map(|(own, baseline)| {
                let cell = &cells.all[own];
                let makespan_ns = |index: usize| records[index].as_ref().map(|record| record.makespan_ns);
                Some(Pair { workload: cell.instance, seed: cell.seed, makespan_ns: makespan_ns(own)?, baseline_ns: makespan_ns(baseline)? })
            })
            .collect();
        let gaps = known().filter(|record| record.lower_bound_ns > 0);
        let gaps: Vec<f64> = gaps.map(|record| record.makespan_ns as f64 / record.lower_bound_ns as f64 - 1.0).collect();
        let utilisations: Vec<f64> = known()
            .filter(|record| record.makespan_ns > 0)
            .map(|record| record.busy_ns as f64 / (record.makespan_ns as f64 * record.processors as f64))
            .collect();
        let moved: u128 = known().map(|record| u128::from(record.moved_bytes)).sum();
        let times: Vec<Duration> =
            cells.all.iter().zip(took).filter(|(cell, _)| cell.policy == policy).filter_map(|(_, took)| *took).collect();
        rows.push(Row {
            policy: decider.name(),
            is_baseline: policy == cells.baseline,
            cells: pairs.len() as u64,
            comparison: compare(&pairs),
            p: None,
            gap: mean(&gaps),
            utilisation: mean(&utilisations).unwrap_or(0.0),
            moved_bytes: u64::try_from(moved / known().count().max(1) as u128).unwrap_or(u64::MAX),
            took: u32::try_from(times.len()).ok().filter(|count| *count > 0).map(|count| times.iter().sum::<Duration>() / count),
            is_planner: decider.is_planner(),
        });
    }
    let tested: Vec<Option<f64>> = rows.iter().map(|row| row.comparison.p.filter(|_| !row.is_baseline)).collect();
    rows.iter_mut().zip(holm(&tested)).for_each(|(row, p)| row.p = p);
    // Without a cell in common nothing is known.
    rows.sort_by(|one, other| (one.cells == 0).cmp(&(other.cells == 0)).then(one.comparison.ratio.total_cmp(&other.comparison.ratio)));
    rows
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A probability with as many digits as say something.
fn probability(p: f64) -> String {
    match p {
        p if p < 0.0001 => "<0.0001".into(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

/// The table, a line each.
pub(super) fn table(rows: &[Row<'_>]) -> Vec<String> {
    let heads = ["policy", "makespan", "95 % interval", "p", "wins", "ties", "losses", "above bound", "utilisation", "moved", "took"]
        .map(str::to_owned);
    let mut lines = vec![heads];
    for row in rows {
        let Comparison { ratio, interval, wins, ties, losses, .. } = &row.comparison;
        let beside = |text: String| if row.is_baseline || row.cells == 0 { "-".to_owned() } else { text };
        let interval = match interval {
            _ if row.is_baseline => "baseline".into(),
            Some((low, high)) => format!("{low:.3} to {high:.3}"),
            None => "-".into(),
        };
        lines.push([
            row.policy.to_owned(),
            if row.cells == 0 { "-".into() } else { format!("{ratio:.3}") },
            interval,
            row.p.map_or_else(|| "-".into(), probability),
            beside(wins.to_string()),
            beside(ties.to_string()),
            beside(losses.to_string()),
            row.gap.map_or_else(|| "-".into(), |gap| format!("{:.1} %", gap * 100.0)),
            format!("{:.1} %", row.utilisation * 100.0),
            size(row.moved_bytes),
            row.took.map_or_else(|| "-".into(), duration),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..11).map(width).collect();
    let padded = |line: &[String; 11]| {
        let cells = line.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") });
        cells.collect::<Vec<_>>().join("  ")
    };
    lines.iter().map(padded).collect()
}

/// What the numbers are, and what follows from them.
pub(super) fn notes(rows: &[Row<'_>]) -> Vec<String> {
    let Some(baseline) = rows.iter().find(|row| row.is_baseline) else { return Vec::new() };
    let beside = baseline.policy;
    let tests = rows.iter().filter(|row| row.p.is_some()).count() as u64;
    let mut notes = vec![format!("makespan     geometric mean of the ratios to that of {beside}; below 1 is shorter")];
    let Comparison { unit, units, .. } = &baseline.comparison;
    let over = counted(*units as u64, unit_name(*unit));
    notes.push(match rows.iter().any(|row| row.comparison.interval.is_some()) {
        true => format!(
            "interval     Student's, over {over}; p by Wilcoxon's signed-rank test, corrected for {} (Holm)",
            counted(tests, "comparison")
        ),
        false => format!("interval     none: {over} to compare is not enough, or all are alike"),
    });
    notes.push(
        "took         a plan, or a whole run of a policy that decides live, on this machine, in the mean of those that were run now".into(),
    );
    if let Some(best) = rows.iter().find(|row| !row.is_baseline && row.cells > 0) {
        notes.push(conclusion(best, beside));
    }
    notes
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Workload => "workload",
        Unit::Seed => "seed",
    }
}

/// What the row of the best policy besides the baseline says, in words.
fn conclusion(best: &Row<'_>, beside: &str) -> String {
    let policy = best.policy;
    let Comparison { ratio, interval, wins, ties, losses, .. } = &best.comparison;
    let change = |ratio: f64| {
        let percent = (ratio - 1.0) * 100.0;
        format!("{:.1} % {}", percent.abs(), if percent <= 0.0 { "less" } else { "more" })
    };
    let counts = format!("{wins} wins, {ties} ties, {losses} losses");
    let Some((low, high)) = interval else {
        return format!(
            "so           {policy} takes {} time than {beside} here ({counts}); nothing says how that is elsewhere",
            change(*ratio)
        );
    };
    let told = format!("takes {} time than {beside} (95 %: {} to {}; {counts})", change(*ratio), change(*low), change(*high));
    let is_sure = (*high < 1.0 || *low > 1.0) && best.p.is_some_and(|p| p < SIGNIFICANT);
    match is_sure {
        true => format!("so           {policy} {told}"),
        false => format!("so           no difference is shown: {policy} {told}"),
    }
}

/// The rows for programs.
pub(super) fn as_json(rows: &[Row<'_>]) -> Value {
    let rows = rows.iter().map(|row| {
        let Comparison { ratio, interval, p, wins, ties, losses, unit, units } = &row.comparison;
        let beside = |value: Value| if row.is_baseline { Value::Null } else { value };
        json!({
            "policy": row.policy,
            "is_planner": row.is_planner,
            "cells": row.cells,
            "ratio": if row.cells == 0 { Value::Null } else { json!(ratio) },
            "interval": beside(json!(interval.map(|(low, high)| [low, high]))),
            "p": beside(json!(p)),
            "p_corrected": row.p,
            "unit": unit_name(*unit),
            "units": units,
            "wins": beside(json!(wins)),
            "ties": beside(json!(ties)),
            "losses": beside(json!(losses)),
            "gap": row.gap,
            "utilisation": row.utilisation,
            "moved_bytes": row.moved_bytes,
            "wall_clock_ns": row.took.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
        })
    });
    rows.collect()
}

//! How far the work is, in a line on standard error, for those who watch.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::sample::Progress;

/// Work that is done sooner shows nothing: a line that flashes up tells nobody anything.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the line is drawn.
const PERIOD: Duration = Duration::from_millis(100);
/// How often there is a line where nobody watches.
const TOLD_PERIOD: Duration = Duration::from_secs(30);

/// The line that is on the screen now, for an interrupt to remove.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Takes the line off the screen, if there is one.
fn clear() {
    if let Some(bar) = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

/// Takes the line off the screen, and none is drawn again: the command is about to end in the middle of its work.
pub fn clear_for_good() {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bar) = shown.take() {
        bar.finish_and_clear();
    }
    // The drawer waits for this lock from now on.
    std::mem::forget(shown);
}

/// The progress of one run. A thread draws it, so that telling it costs two stores; it goes when this is dropped.
#[derive(Debug)]
pub struct ProgressLine {
    counts: Arc<Counts>,
    drawer: Option<JoinHandle<()>>,
}

/// What the workers tell and the drawer reads.
#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
    /// Whether the run is over.
    over: Mutex<bool>,
    told: Condvar,
}

impl ProgressLine {
    /// Begins the progress of the run called `name`; it shows only if `wanted` and standard error is a terminal.
    pub fn begin(name: &str, wanted: bool) -> Self {
        Self::show(name, "tasks", wanted && std::io::stderr().is_terminal())
    }

    /// The same for work that is counted in something else, and may take hours: where standard error is no terminal there is a line now and then.
    pub fn of(name: &str, what: &'static str, wanted: bool) -> Self {
        Self::show(name, what, wanted)
    }

    fn show(name: &str, what: &'static str, is_shown: bool) -> Self {
        let counts = Arc::new(Counts::default());
        let drawer = is_shown.then(|| {
            let (name, counts) = (name.to_owned(), Arc::clone(&counts));
            let draw: fn(&str, &str, &Counts) = if std::io::stderr().is_terminal() { draw } else { tell };
            thread::Builder::new().name("progress".into()).spawn(move || draw(&name, what, &counts))
        });
        // Without a thread the run goes on unseen.
        Self { counts, drawer: drawer.and_then(Result::ok) }
    }
}

impl Progress for ProgressLine {
    fn advance(&self, done: u64, total: u64) {
        // Relaxed: the two are for the eye, and a line that mixes an old and a new number is gone in a tenth of a second.
        self.counts.total.store(total, Ordering::Relaxed);
        self.counts.done.fetch_max(done, Ordering::Relaxed);
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        *self.counts.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.counts.told.notify_all();
        if let Some(drawer) = self.drawer.take() {
            // It only draws; if it panicked there is nothing to clean up but the line.
            let _ = drawer.join();
        }
        clear();
    }
}

/// Says how far it is, now and then, until the run is over.
fn tell(name: &str, what: &str, counts: &Counts) {
    let mut over = counts.over.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        (over, _) = counts.told.wait_timeout_while(over, TOLD_PERIOD, |over| !*over).unwrap_or_else(PoisonError::into_inner);
        if *over {
            return;
        }
        let (done, total) = (counts.done.load(Ordering::Relaxed), counts.total.load(Ordering::Relaxed));
        if total > 0 {
            crate::console::remark(format_args!("{name}: {done} of {total} {what}"));
        }
    }
}

/// Draws the line until the run is over.
fn draw(name: &str, what: &str, counts: &Counts) {
    let mut pause = PATIENCE;
    let mut over = counts.over.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        (over, _) = counts.told.wait_timeout_while(over, pause, |over| !*over).unwrap_or_else(PoisonError::into_inner);
        if *over {
            return;
        }
        pause = PERIOD;
        let (done, total) = (counts.done.load(Ordering::Relaxed), counts.total.load(Ordering::Relaxed));
        let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = shown.get_or_insert_with(|| bar(name));
        if total > 0 {
            if bar.length().is_none() {
                bar.set_style(style(&format!("{{prefix}} {{bar:30}} {{pos}} of {{len}} {what}, {{elapsed}}")));
            }
            bar.set_length(total);
            bar.set_position(done.min(total));
        }
        bar.tick();
    }
}

/// A line that does not know how much there is to do.
fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style("{prefix} {spinner} {elapsed}"));
    bar.set_prefix(name.to_owned());
    bar.with_elapsed(PATIENCE)
}

/// The style of `template`, or a plain one: a mistake in a template is no reason to stop a computation.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

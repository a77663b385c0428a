//! What is known as text: lines for people to read, and a checksum so that nothing else is believed.
//!
//! ```text
//! poniard-models 1
//! # …
//! machine   Intel(R) Xeon(R), 2 processors
//! generation   7
//! code   cpu   00000000000000af   7   blur
//!    4096   20   19873.5   412.0   19400   0.998
//! link   host   vulkan-0   7
//!    4096   12   15000.0   300.0   14000   -
//! checksum   6f0c…
//! ```
//!
//! Fields are apart by tabs. After `code` come the class of processors, the identity, the generation of the last use and the name; after `link` the two spaces and
//! the generation. The lines below are size classes: mean size in bytes, count, mean, spread and least in nanoseconds, CPU time as a share.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use poniard_interface::type_key::{FNV_OFFSET, fnv};

use super::execution::{CodeId, ProcessorClass, WALL_NS_MAX};
use super::size_class::SizeClass;
use super::statistics::Summary;

/// The form of the text. One of another version is not read.
pub(crate) const VERSION: u32 = 1;
/// So many keys of code are kept, those used last.
const CODES_MAX: usize = 4096;
/// So many links are kept.
const LINKS_MAX: usize = 1024;
/// What has a longer name is not kept.
const NAME_BYTES_MAX: usize = 1024;
/// A text is not longer.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 20;

const ABOUT: &str = "\
# What Poniard has measured on this machine; `poniard models` shows it. The file may be removed at any time. One that was changed is not used: the last line is its checksum.
# code: class of processors, identity, last use, name.  link: from, to, last use.
# Below each: bytes, count, mean_ns, spread_ns, least_ns, CPU time as a share of the mean.
";

/// What is known, as it is in a file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Kept {
    /// The machine on which it was measured, in words.
    pub machine: String,
    /// How often the file has been written.
    pub generation: u64,
    /// Code on classes of processors.
    pub codes: BTreeMap<(CodeId, ProcessorClass), KeptCurve>,
    /// Links: from, to.
    pub links: BTreeMap<(Arc<str>, Arc<str>), KeptCurve>,
}

/// What is known of one thing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct KeptCurve {
    /// The file's generation when it was last used.
    pub generation: u64,
    /// Its size classes.
    pub classes: BTreeMap<SizeClass, Summary>,
}

impl Kept {
    /// Writes it, less what was used long ago where it is too much.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("poniard-models {VERSION}\n{ABOUT}");
        // Writing to a text does not fail.
        let _ = writeln!(text, "machine\t{}\ngeneration\t{}", escaped(&self.machine), self.generation);
        let code = |((code, class), curve): (&(CodeId, ProcessorClass), &KeptCurve)| {
            let (class, name) = (escaped(class.as_str()), escaped(&code.name));
            (curve.generation, with_classes(format!("code\t{class}\t{:016x}\t{}\t{name}\n", code.identity, curve.generation), curve))
        };
        let link = |((from, to), curve): (&(Arc<str>, Arc<str>), &KeptCurve)| {
            (curve.generation, with_classes(format!("link\t{}\t{}\t{}\n", escaped(from), escaped(to), curve.generation), curve))
        };
        let is_short = |names: &[&str]| names.iter().all(|name| name.len() <= NAME_BYTES_MAX);
        let codes = self.codes.iter().filter(|((code, class), _)| is_short(&[&code.name, class.as_str()])).map(code).collect();
        let links = self.links.iter().filter(|((from, to), _)| is_short(&[from, to])).map(link).collect();
        // Some of it for the head and the checksum.
        let mut room = TEXT_BYTES_MAX - (8 << 10);
        for (blocks, count_max) in [(links, LINKS_MAX), (codes, CODES_MAX)] {
            text.extend(newest(blocks, count_max, &mut room));
        }
        let _ = writeln!(text, "checksum\t{}", checksum(&text));
        text
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let first = text.lines().next().unwrap_or_default();
        match first.strip_prefix("poniard-models ").map(str::parse::<u32>) {
            Some(Ok(VERSION)) => {}
            Some(Ok(version)) => return Err(format!("it is of version {version}, and version {VERSION} is expected")),
            _ => return Err("it does not begin like a file of models".into()),
        }
        let at = text.rfind("checksum\t").ok_or("it has no checksum")?;
        let (body, last) = text.split_at(at);
        if last.strip_prefix("checksum\t").and_then(|last| last.strip_suffix('\n')) != Some(checksum(body).as_str()) {
            return Err("its checksum does not fit".into());
        }
        let mut kept = Self::default();
        let mut curve = None;
        for (index, line) in body.lines().enumerate().skip(1).filter(|(_, line)| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            kept.take(&fields, &mut curve).ok_or_else(|| format!("line {} makes no sense", index + 1))?;
        }
        kept.put(curve);
        Ok(kept)
    }

    /// Takes a line; those of size classes are for the last `curve`.
    fn take(&mut self, fields: &[&str], curve: &mut Option<(Key, KeptCurve)>) -> Option<()> {
        match fields {
            ["machine", machine] => self.machine = unescaped(machine)?,
            ["generation", generation] => self.generation = generation.parse().ok()?,
            ["code", class, identity, generation, name] => {
                let code = CodeId::new(&unescaped(name)?, u64::from_str_radix(identity, 16).ok()?);
                let key = Key::Code(code, ProcessorClass::new(&unescaped(class)?));
                self.put(curve.replace((key, KeptCurve { generation: generation.parse().ok()?, ..KeptCurve::default() })));
            }
            ["link", from, to, generation] => {
                let key = Key::Link(unescaped(from)?.into(), unescaped(to)?.into());
                self.put(curve.replace((key, KeptCurve { generation: generation.parse().ok()?, ..KeptCurve::default() })));
            }
            ["", bytes, count, mean_ns, spread_ns, least_ns, cpu_share] => {
                let ns = |text: &str| text.parse().ok().filter(|ns| (0.0..=WALL_NS_MAX as f64).contains(ns));
                let share = |text: &str| text.parse().ok().filter(|share: &f64| share.is_finite() && *share >= 0.0);
                let summary = Summary {
                    bytes: bytes.parse().ok()?,
                    count: count.parse().ok()?,
                    mean_ns: ns(mean_ns)?,
                    spread_ns: ns(spread_ns)?,
                    least_ns: least_ns.parse().ok()?,
                    cpu_share: if *cpu_share == "-" { None } else { Some(share(cpu_share)?) },
                };
                curve.as_mut()?.1.classes.insert(SizeClass::of(summary.bytes), summary);
            }
            _ => return None,
        }
        Some(())
    }

    fn put(&mut self, curve: Option<(Key, KeptCurve)>) {
        match curve {
            None => {}
            Some((Key::Code(code, class), curve)) => _ = self.codes.insert((code, class), curve),
            Some((Key::Link(from, to), curve)) => _ = self.links.insert((from, to), curve),
        }
    }
}

/// What a curve is of.
enum Key {
    Code(CodeId, ProcessorClass),
    Link(Arc<str>, Arc<str>),
}

/// The blocks that were used last, in the order in which they are.
fn newest(blocks: Vec<(u64, String)>, count_max: usize, room: &mut usize) -> impl Iterator<Item = String> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(blocks[*index].0));
    let mut is_kept = vec![false; blocks.len()];
    for index in order.into_iter().take(count_max) {
        let Some(left) = room.checked_sub(blocks[index].1.len()) else { break };
        (*room, is_kept[index]) = (left, true);
    }
    blocks.into_iter().zip(is_kept).filter_map(|((_, block), is_kept)| is_kept.then_some(block))
}

fn with_classes(mut text: String, curve: &KeptCurve) -> String {
    for class in curve.classes.values() {
        let _ = write!(text, "\t{}\t{}\t{:.1}\t{:.1}\t{}\t", class.bytes, class.count, class.mean_ns, class.spread_ns, class.least_ns);
        let _ = match class.cpu_share {
            Some(share) => writeln!(text, "{share:.3}"),
            None => writeln!(text, "-"),
        };
    }
    text
}

/// FNV-1a: against damage, not against malice. Of 128 bits: whichever byte is changed, it changes.
fn checksum(text: &str) -> String {
    format!("{:032x}", fnv(FNV_OFFSET, text.as_bytes()))
}

/// A name without tabs and line ends: `%` and control characters are written as `%` and two digits.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '%' | '\0'..='\x1f' | '\x7f' => _ = write!(text, "%{:02x}", c as u32),
            _ => text.push(c),
        }
    }
    text
}

fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        name.push(u8::from_str_radix(part.get(..2)?, 16).ok()?.into());
        name.push_str(&part[2..]);
    }
    Some(name)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something of everything.
    pub(crate) fn example() -> Kept {
        let summary = |bytes, cpu_share| Summary { bytes, count: 20, mean_ns: 1234.5, spread_ns: 67.0, least_ns: 1100, cpu_share };
        let curve = |generation, summaries: &[Summary]| KeptCurve {
            generation,
            classes: summaries.iter().map(|summary| (SizeClass::of(summary.bytes), *summary)).collect(),
        };
        let code = |name, class| (CodeId::new(name, 0xaf), ProcessorClass::new(class));
        Kept {
            machine: "Some CPU, 2 processors".into(),
            generation: 7,
            codes: BTreeMap::from([
                (code("blur", "cpu"), curve(7, &[summary(0, Some(0.998)), summary(4096, None)])),
                (code("a\tb\n100 % \\ ü", "vulkan:llvmpipe (LLVM 15)"), curve(3, &[summary(u64::MAX, Some(2.0))])),
                (code("unmeasured", "cpu"), curve(0, &[])),
            ]),
            links: BTreeMap::from([(("host".into(), "vulkan-0".into()), curve(6, &[summary(1 << 20, None)]))]),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = example().text();
        assert_eq!(Kept::parse(&text), Ok(example()), "{text}");
        for line in ["code\tcpu\t00000000000000af\t7\tblur\n\t0\t20\t1234.5\t67.0\t1100\t0.998\n\t4096\t20", "link\thost\tvulkan-0\t6\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(Kept::parse(&Kept::default().text()), Ok(Kept::default()));
    }

    #[test]
    fn each_damaged_byte_is_noticed() {
        let text = example().text().into_bytes();
        for at in 0..text.len() {
            assert!(std::str::from_utf8(&text[..at]).map_or(true, |cut| Kept::parse(cut).is_err()), "cut after {at} bytes");
            for flip in [1, 2, 0x20, 0x80] {
                let mut damaged = text.clone();
                damaged[at] ^= flip;
                assert!(std::str::from_utf8(&damaged).map_or(true, |damaged| Kept::parse(damaged).is_err()), "{flip} at {at}");
            }
        }
        let more = [text.as_slice(), b"\n"].concat();
        assert!(Kept::parse(std::str::from_utf8(&more).unwrap()).is_err());
    }

    #[track_caller]
    fn check_refused(body: &str, said: &str) {
        let error = Kept::parse(&format!("{body}checksum\t{}\n", checksum(body))).expect_err("a bad text");
        assert!(error.contains(said), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        check_refused("poniard-models 2\nwhatever\n", "version 2, and version 1 is expected");
        check_refused("PNG\n", "does not begin");
        check_refused("", "does not begin");
        let head = "poniard-models 1\n# remark\n";
        for line in [
            "nonsense",
            "machine\ta\tb",
            "machine\t%",
            "machine\t%zz",
            "generation\t-1",
            "code\tcpu\txyz\t1\ta",
            "\t1\t1\t1\t1\t1\t-",
            "code\tcpu\taf\t1\ta\n\t1\t1\tNaN\t1\t1\t-",
            "code\tcpu\taf\t1\ta\n\t1\t1\t-5\t1\t1\t-",
            "code\tcpu\taf\t1\ta\n\t1\t1\t1e300\t1\t1\t-",
            "code\tcpu\taf\t1\ta\n\t1\t1\t5\t1\t1\tinf",
            "link\ta\tb\t1\n\t1\t1\t5\t1\t1",
        ] {
            check_refused(&format!("{head}{line}\n"), "makes no sense");
        }
    }

    #[test]
    fn what_was_used_last_stays() {
        let mut kept = Kept::default();
        let many = |index: usize| (CodeId::new(&format!("kernel {index:05}"), 1), ProcessorClass::new("cpu"));
        for index in 0..CODES_MAX + 10 {
            kept.codes.insert(many(index), KeptCurve { generation: if index < 10 { 1 } else { 2 }, ..KeptCurve::default() });
        }
        kept.codes.insert((CodeId::new(&"x".repeat(NAME_BYTES_MAX + 1), 1), ProcessorClass::new("cpu")), KeptCurve::default());
        let again = Kept::parse(&kept.text()).unwrap();
        assert_eq!(again.codes.len(), CODES_MAX);
        assert!(again.codes.contains_key(&many(10)) && !again.codes.contains_key(&many(9)));
        // Each with more than can be kept of all.
        let summary = |bytes| Summary { bytes, count: u64::MAX, least_ns: u64::MAX, ..Summary::default() };
        let classes: BTreeMap<_, _> = (0..64).map(|octave| summary(1 << octave)).map(|class| (SizeClass::of(class.bytes), class)).collect();
        for (index, curve) in kept.codes.values_mut().enumerate() {
            *curve = KeptCurve { generation: index as u64, classes: classes.clone() };
        }
        let text = kept.text();
        assert!(text.len() <= TEXT_BYTES_MAX && text.len() > TEXT_BYTES_MAX / 2);
        let again = Kept::parse(&text).unwrap();
        assert!(again.codes.contains_key(&many(CODES_MAX + 9)) && !again.codes.contains_key(&many(0)));
    }

    proptest! {
        #[test]
        fn any_name_is_read_back(name in ".*|[%\\t\\n\\r0-9a-f]*") {
            prop_assert_eq!(unescaped(&escaped(&name)), Some(name.clone()));
            prop_assert!(!escaped(&name).contains(['\t', '\n', '\r']));
        }

        #[test]
        fn no_text_panics(text in "\\PC*|((machine|generation|code|link|)(\t[%0a.é-]{0,3}){1,4}\n?){0,4}|[%0a.é-]{0,9}") {
            let _ = Kept::parse(&text);
            let _ = unescaped(&text);
            let body = format!("poniard-models 1\n{text}\n");
            let _ = Kept::parse(&format!("{body}checksum\t{}\n", checksum(&body)));
        }
    }
}

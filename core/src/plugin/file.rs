//! A plugin file, read without running any of it.
//!
//! The dynamic linker trusts its input: a file whose end is missing kills the process with a bus error, and the constructors of a foreign library run
//! before anybody can look at its symbols. So the structure is checked here first, and the header is read from the file's bytes.
//!
//! Reference: the ELF specification, <https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html>.

use std::fmt;
use std::fs::{self, File, FileType};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use object::elf;
use object::endian::NativeEndian;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{ReadCache, ReadRef};
use poniard_interface::header::{IDENTITY_BYTES, MAGIC, PluginIdentity, PluginKind};
use poniard_interface::{PluginHeader, stable::CreateBackend};

use super::error::{HOST_ABI, LoadErrorKind};
use super::io_kind;

/// ELF as this program's own file has it: 64-bit, in the machine's byte order. Others are refused before they are read as one of these.
type Header = elf::FileHeader64<NativeEndian>;
type Segment = <Header as FileHeader>::ProgramHeader;
type Section = <Header as FileHeader>::SectionHeader;
type Symbol = <Header as FileHeader>::Sym;

const ENDIAN: NativeEndian = NativeEndian;

/// What a plugin file says about itself.
#[derive(Debug)]
pub(super) struct Described {
    /// What it is.
    pub(super) kind: PluginKind,
    /// The frozen part of its header.
    pub(super) identity: PluginIdentity,
    /// The symbol of the header.
    pub(super) symbol: String,
}

/// Reads and checks the file at `path`. `name` is the backend or policy that it must hold; `None` takes any.
pub(super) fn describe(path: &Path, kind: PluginKind, name: Option<&str>) -> Result<Described, LoadErrorKind> {
    let file = open(path)?;
    let len_bytes = file.metadata().map_err(|error| io_kind("look at it", error))?.len();
    // Reads only the parts that are asked for: a plugin with debug information is large.
    let cache = ReadCache::new(file);
    let elf = Elf::parse(&cache, len_bytes)?;
    let (symbol, value) = elf.header_symbol(kind, name)?;
    let bytes = elf.bytes_at(value)?;
    let identity = PluginIdentity::from_bytes(&bytes);
    check_identity(&identity, kind, &symbol, name)?;
    let found_bytes = u64::from(identity.header_bytes).min(value.st_size(ENDIAN));
    let expected_bytes = size_of::<PluginHeader<CreateBackend>>() as u64;
    if found_bytes != expected_bytes {
        return Err(LoadErrorKind::HeaderSize { expected_bytes, found_bytes });
    }
    Ok(Described { kind, identity, symbol })
}

/// Opens a regular file, and nothing that could block or have an effect when it is opened.
fn open(path: &Path) -> Result<File, LoadErrorKind> {
    let regular = |kind: FileType| if kind.is_file() { Ok(()) } else { Err(LoadErrorKind::NotAFile { found: sort(kind) }) };
    regular(fs::metadata(path).map_err(|error| io_kind("look at it", error))?.file_type())?;
    // Should a pipe take the file's place right now, opening it must not wait for a writer.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(|error| io_kind("open it", error))?;
    regular(file.metadata().map_err(|error| io_kind("look at it", error))?.file_type())?;
    Ok(file)
}

fn sort(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

/// Compares what the plugin says with what this program is, the frozen facts first: nothing else of a header of another version can be believed.
fn check_identity(identity: &PluginIdentity, kind: PluginKind, symbol: &str, name: Option<&str>) -> Result<(), LoadErrorKind> {
    if identity.magic != MAGIC {
        return Err(LoadErrorKind::Magic { symbol: symbol.into(), found: identity.magic });
    }
    let plugin = (identity.abi_major, identity.abi_minor);
    if plugin > HOST_ABI {
        return Err(LoadErrorKind::NewerContract { plugin, version: identity.version(), rustc: identity.rustc() });
    }
    // An older minor version lacks only what this host does not insist on.
    if plugin.0 < HOST_ABI.0 {
        return Err(LoadErrorKind::OlderContract { plugin, version: identity.version(), rustc: identity.rustc() });
    }
    let expected_bytes = size_of::<usize>() as u32;
    if identity.pointer_bytes != expected_bytes {
        return Err(LoadErrorKind::PointerSize { expected_bytes, found_bytes: identity.pointer_bytes });
    }
    let header = identity.name();
    if kind.symbol(&header) != symbol {
        return Err(LoadErrorKind::SymbolName { symbol: symbol.into(), header });
    }
    match name {
        Some(file) if file != header => Err(LoadErrorKind::FileName { kind, file: file.into(), header }),
        _ => Ok(()),
    }
}

/// The checked parts of an ELF file.
struct Elf<'data> {
    data: &'data ReadCache<File>,
    segments: &'data [Segment],
    sections: &'data [Section],
}

impl<'data> Elf<'data> {
    /// Reads the tables and checks that all they speak of lies within the file.
    fn parse(data: &'data ReadCache<File>, len_bytes: u64) -> Result<Self, LoadErrorKind> {
        check_machine(data, len_bytes)?;
        let header = Header::parse(data).map_err(malformed)?;
        let kind = header.e_type(ENDIAN);
        if kind != elf::ET_DYN {
            return Err(LoadErrorKind::NotShared { found: sort_of_elf(kind) });
        }
        // Everything is asked how far it reaches before the file is called truncated, so that the message names the length that it needs.
        let mut extent = Extent { len_bytes, needed_bytes: 0 };
        extent.include(header.e_phoff(ENDIAN), u64::from(header.e_phnum(ENDIAN)) * u64::from(header.e_phentsize(ENDIAN)));
        extent.include(header.e_shoff(ENDIAN), u64::from(header.e_shnum(ENDIAN)) * u64::from(header.e_shentsize(ENDIAN)));
        let segments = match header.program_headers(ENDIAN, data) {
            Ok(segments) => segments,
            Err(error) => {
                extent.check()?;
                return Err(malformed(error));
            }
        };
        for segment in segments {
            let (offset, size) = segment.file_range(ENDIAN);
            extent.include(offset, size);
            if segment.p_type(ENDIAN) == elf::PT_LOAD && size > segment.p_memsz(ENDIAN) {
                return Err(LoadErrorKind::Malformed { reason: "a segment is longer in the file than in memory".into() });
            }
        }
        extent.check()?;
        let sections = header.section_headers(ENDIAN, data).map_err(malformed)?;
        for section in sections {
            if let Some((offset, size)) = section.file_range(ENDIAN) {
                extent.include(offset, size);
            }
        }
        extent.check()?;
        for (table, missing) in [(segments.is_empty(), "program headers"), (sections.is_empty(), "section headers")] {
            if table {
                return Err(LoadErrorKind::Malformed { reason: format!("it has no {missing}") });
            }
        }
        Ok(Self { data, segments, sections })
    }

    /// The exported symbol of a header and its name: the one of the backend or policy `name`, or else the only one.
    fn header_symbol(&self, kind: PluginKind, name: Option<&str>) -> Result<(String, &'data Symbol), LoadErrorKind> {
        let prefix = kind.symbol("");
        let others = [PluginKind::Backend, PluginKind::Policy].into_iter().filter(|other| *other != kind);
        let others: Vec<_> = others.map(|other| (other, other.symbol(""))).collect();
        let mut found_other = None;
        let Some(table) = self.sections.iter().find(|section| section.sh_type(ENDIAN) == elf::SHT_DYNSYM) else {
            return Err(LoadErrorKind::NoHeader { kind, name: name.map(Into::into) });
        };
        let symbols: &[Symbol] = table.data_as_array(ENDIAN, self.data).map_err(malformed)?;
        let strings = self
            .sections
            .get(table.link(ENDIAN).0)
            .ok_or_else(|| LoadErrorKind::Malformed { reason: "its table of symbols has no table of names".into() })?
            .data(ENDIAN, self.data)
            .map_err(malformed)?;
        let mut headers = Vec::new();
        for symbol in symbols {
            // Functions and names that the file only asks for are no headers.
            if symbol.is_undefined(ENDIAN) || symbol.is_local() || symbol.st_type() != elf::STT_OBJECT {
                continue;
            }
            let text = text_at(strings, symbol.st_name(ENDIAN))?;
            if text.starts_with(prefix.as_bytes()) {
                headers.push((String::from_utf8_lossy(text).into_owned(), symbol));
            } else if let Some((other, _)) = others.iter().find(|(_, prefix)| text.starts_with(prefix.as_bytes())) {
                found_other = Some(*other);
            }
        }
        if let Some(name) = name {
            let wanted = kind.symbol(name);
            if let Some(index) = headers.iter().position(|(symbol, _)| *symbol == wanted) {
                return Ok(headers.swap_remove(index));
            }
        }
        match headers.len() {
            0 => Err(match found_other {
                Some(found) => LoadErrorKind::OtherKind { expected: kind, found },
                None => LoadErrorKind::NoHeader { kind, name: name.map(Into::into) },
            }),
            // If it is another one than the file name says, the check of the names will say so.
            1 => Ok(headers.swap_remove(0)),
            _ => {
                let mut names: Vec<_> = headers.into_iter().map(|(symbol, _)| symbol[prefix.len()..].to_owned()).collect();
                names.sort();
                Err(LoadErrorKind::Several { kind, names })
            }
        }
    }

    /// The first bytes of `symbol`, out of the segment that will hold it in memory.
    fn bytes_at(&self, symbol: &Symbol) -> Result<[u8; IDENTITY_BYTES], LoadErrorKind> {
        let address: u64 = symbol.st_value(ENDIAN);
        self.segments
            .iter()
            .filter(|segment| segment.p_type(ENDIAN) == elf::PT_LOAD)
            .find_map(|segment| {
                let start: u64 = address.checked_sub(segment.p_vaddr(ENDIAN))?;
                let end = start.checked_add(IDENTITY_BYTES as u64)?;
                let (offset, size) = segment.file_range(ENDIAN);
                (end <= size).then(|| self.data.read_bytes_at(offset + start, IDENTITY_BYTES as u64).ok())?
            })
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| LoadErrorKind::Malformed { reason: "its header lies outside the segments of the file".into() })
    }
}

/// How much of a file its tables speak of.
struct Extent {
    len_bytes: u64,
    needed_bytes: u64,
}

impl Extent {
    fn include(&mut self, offset_bytes: u64, size_bytes: u64) {
        self.needed_bytes = self.needed_bytes.max(offset_bytes.saturating_add(size_bytes));
    }

    fn check(&self) -> Result<(), LoadErrorKind> {
        if self.needed_bytes <= self.len_bytes {
            return Ok(());
        }
        Err(LoadErrorKind::Truncated { needed_bytes: self.needed_bytes, len_bytes: self.len_bytes })
    }
}

/// The ELF header up to and with the machine, which all classes and byte orders have alike.
const PREAMBLE_BYTES: usize = 20;

/// Checks that the file is ELF, of this machine, and long enough for its header.
fn check_machine(data: &ReadCache<File>, len_bytes: u64) -> Result<(), LoadErrorKind> {
    if len_bytes == 0 {
        return Err(LoadErrorKind::Empty);
    }
    let unreadable = |()| LoadErrorKind::Malformed { reason: "its beginning cannot be read".into() };
    let first_bytes = data.read_bytes_at(0, len_bytes.min(elf::ELFMAG.len() as u64)).map_err(unreadable)?;
    if first_bytes != elf::ELFMAG {
        return Err(LoadErrorKind::NotElf { first_bytes: first_bytes.to_vec() });
    }
    let header_bytes = size_of::<Header>() as u64;
    if len_bytes < header_bytes {
        return Err(LoadErrorKind::Truncated { needed_bytes: header_bytes, len_bytes });
    }
    let preamble = data.read_bytes_at(0, PREAMBLE_BYTES as u64).map_err(unreadable)?;
    let (class, order) = (elf::FileClass(preamble[4]), elf::DataEncoding(preamble[5]));
    let machine = [preamble[18], preamble[19]];
    let machine = elf::Machine(if order == elf::ELFDATA2MSB { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) });
    let found = Machine { machine, class, order };
    let expected = Machine::of_this_program()?;
    if found != expected {
        return Err(LoadErrorKind::OtherMachine { expected: expected.to_string(), found: found.to_string() });
    }
    Ok(())
}

/// What a file's code runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Machine {
    machine: elf::Machine,
    class: elf::FileClass,
    order: elf::DataEncoding,
}

impl Machine {
    fn of_this_program() -> Result<Self, LoadErrorKind> {
        let machine = match std::env::consts::ARCH {
            "x86_64" => elf::EM_X86_64,
            "aarch64" => elf::EM_AARCH64,
            "riscv64" => elf::EM_RISCV,
            other => return Err(LoadErrorKind::UnsupportedHost { host: other.into() }),
        };
        let order = if cfg!(target_endian = "big") { elf::ELFDATA2MSB } else { elf::ELFDATA2LSB };
        Ok(Self { machine, class: elf::ELFCLASS64, order })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.machine {
            elf::EM_X86_64 => f.write_str("x86-64")?,
            elf::EM_AARCH64 => f.write_str("aarch64")?,
            elf::EM_RISCV => f.write_str("RISC-V")?,
            elf::EM_386 => f.write_str("x86")?,
            elf::EM_ARM => f.write_str("arm")?,
            elf::Machine(number) => write!(f, "ELF machine {number}")?,
        }
        match self.class {
            elf::ELFCLASS64 => f.write_str(", 64-bit")?,
            elf::ELFCLASS32 => f.write_str(", 32-bit")?,
            elf::FileClass(number) => write!(f, ", ELF class {number}")?,
        }
        match self.order {
            elf::ELFDATA2LSB => f.write_str(" little-endian"),
            elf::ELFDATA2MSB => f.write_str(" big-endian"),
            elf::DataEncoding(number) => write!(f, ", ELF byte order {number}"),
        }
    }
}

fn sort_of_elf(kind: elf::FileType) -> String {
    match kind {
        elf::ET_REL => "an object file".into(),
        elf::ET_EXEC => "an executable".into(),
        elf::ET_CORE => "a core dump".into(),
        elf::FileType(number) => format!("an ELF file of type {number}"),
    }
}

/// The text that begins at `offset` of a table of names.
fn text_at(strings: &[u8], offset: u32) -> Result<&[u8], LoadErrorKind> {
    let rest = strings.get(offset as usize..);
    rest.and_then(|rest| rest.split(|byte| *byte == 0).next())
        .ok_or_else(|| LoadErrorKind::Malformed { reason: "the name of a symbol lies outside its table".into() })
}

fn malformed(error: object::read::Error) -> LoadErrorKind {
    LoadErrorKind::Malformed { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;

    /// Whatever the tables of an ELF file say, reading it is an answer and no panic. The file is this program, which is no plugin.
    #[test]
    fn any_damage_to_the_tables_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.so");
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        fs::write(&path, &program).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(matches!(describe(&path, PluginKind::Backend, None), Err(LoadErrorKind::NoHeader { .. })));

        let word = |at: usize| u64::from_le_bytes(program[at..at + 8].try_into().unwrap());
        let sections = word(40);
        // The file header, the program headers, and the section headers, which are the last part.
        let places = prop_oneof![0..64_u64, 64..1000_u64, sections..program.len() as u64 - 8];
        let values = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(1 << 63), 0..program.len() as u64];
        let damage = prop::collection::vec((places, values, 1..=8_usize), 1..4);
        let outcome = TestRunner::new(ProptestConfig::with_cases(2000)).run(&damage, |damage| {
            for (place, value, len) in &damage {
                file.write_all_at(&value.to_ne_bytes()[..*len], *place).unwrap();
            }
            let described = describe(&path, PluginKind::Backend, None);
            for (place, _, _) in &damage {
                file.write_all_at(&program[*place as usize..][..8], *place).unwrap();
            }
            prop_assert!(described.is_err());
            Ok(())
        });
        outcome.unwrap();
    }
}

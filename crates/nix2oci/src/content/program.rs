//! What a file's first bytes tell of where it runs.
//!
//! Sources: the ELF header and its machine numbers, System V ABI and Linux
//! `include/uapi/linux/elf-em.h`; the bytes of its identification, FreeBSD
//! elf(5); Mach-O, `mach-o/loader.h`, `mach-o/fat.h` and `mach/machine.h` of
//! Apple's xnu; PE, Microsoft's "PE Format"; `#!`, Linux execve(2).

use std::fmt;

use crate::oci::Platform;

/// A program, as far as its first bytes tell.
///
/// Operating systems and processors have the names that images give them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// The format.
    pub format: ProgramFormat,
    /// The operating system, where the format has one only or the header says
    /// it: most programs in ELF for Linux do not.
    pub os: Option<&'static str>,
    /// The processors, of a fat Mach-O several; none of a script.
    pub architectures: Vec<Architecture>,
    /// What starts it: of a script, the program after `#!`; in ELF, the dynamic
    /// loader, if it is named in the first bytes.
    pub interpreter: Option<Vec<u8>>,
}

/// How a program is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProgramFormat {
    /// Linux, the BSDs and most others.
    Elf,
    /// macOS.
    MachO,
    /// Windows.
    Pe,
    /// Text that names its interpreter.
    Script,
}

/// The processor of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// By the name that images give it, such as `arm64`.
    Known(&'static str),
    /// By the number in the header of the program's format: no image has a
    /// name for it.
    Unknown(u32),
}

impl Program {
    /// Bytes at the beginning of a file that are looked at.
    pub const HEAD: usize = 4096;

    /// Reads the first bytes of a file: [`Program::HEAD`] of them, or all that
    /// there are. Returns `None` if they are no program, or one that runs
    /// anywhere: a class file, a managed assembly, firmware.
    pub fn parse(head: &[u8]) -> Option<Self> {
        match head {
            [0x7f, b'E', b'L', b'F', ..] => elf(head),
            [b'#', b'!', ..] => script(head),
            [b'M', b'Z', ..] => pe(head),
            _ => mach_o(head),
        }
    }

    /// Returns whether the platform can run it: a processor runs the programs
    /// of its own 32 bits too. `true` where it cannot be told, as for scripts
    /// and for processors that images have no name for.
    pub fn runs_on(&self, platform: &Platform) -> bool {
        let (os, wanted) = (
            platform.os().to_string(),
            platform.architecture().to_string(),
        );
        let runs_there = match (self.format, self.os) {
            (ProgramFormat::Script, _) => return true,
            (_, Some(own)) => own == os,
            (_, None) => !matches!(os.as_str(), "darwin" | "windows"),
        };
        let fits = |architecture: &Architecture| match architecture {
            Architecture::Known(own) => {
                *own == wanted
                    || NARROWER
                        .iter()
                        .any(|(wide, narrow)| wide == &wanted && narrow == own)
            }
            Architecture::Unknown(_) => false,
        };
        let is_known = ELF_MACHINES
            .iter()
            .any(|(_, names)| names.iter().any(|name| *name == wanted));
        runs_there && (!is_known || self.architectures.iter().any(fits))
    }
}

/// Processors, and those whose programs they run besides their own.
const NARROWER: &[(&str, &str)] = &[
    ("amd64", "386"),
    ("arm64", "arm"),
    ("mips64", "mips"),
    ("mips64le", "mipsle"),
    ("ppc64", "ppc"),
    ("riscv64", "riscv"),
    ("s390x", "s390"),
];

impl fmt::Display for Program {
    /// Writes `linux/arm64 (ELF)`, or `arm64 (ELF)` if the system is not told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.format == ProgramFormat::Script {
            return f.write_str("a script");
        }
        if let Some(os) = self.os {
            write!(f, "{os}/")?;
        }
        for (at, architecture) in self.architectures.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match architecture {
                Architecture::Known(name) => write!(f, "{comma}{name}")?,
                Architecture::Unknown(number) => write!(f, "{comma}processor {number}")?,
            }
        }
        f.write_str(match self.format {
            ProgramFormat::Elf => " (ELF)",
            ProgramFormat::MachO => " (Mach-O)",
            ProgramFormat::Pe | ProgramFormat::Script => " (PE)",
        })
    }
}

/// Machine numbers of ELF, and the names for 32 bits little end first, 32 bits
/// big end first, 64 bits little and 64 bits big end first; empty where there
/// is none.
const ELF_MACHINES: &[(u32, [&str; 4])] = &[
    (2, ["", "sparc", "", ""]),
    (3, ["386", "", "", ""]),
    (8, ["mipsle", "mips", "mips64le", "mips64"]),
    (20, ["", "ppc", "", ""]),
    (21, ["", "", "ppc64le", "ppc64"]),
    (22, ["", "s390", "", "s390x"]),
    (40, ["arm", "armbe", "", ""]),
    (43, ["", "", "", "sparc64"]),
    // 32 bits of it is x32, which the same kernel runs.
    (62, ["amd64", "", "amd64", ""]),
    (183, ["arm64", "", "arm64", "arm64be"]),
    (243, ["riscv", "", "riscv64", ""]),
    (258, ["", "", "loong64", ""]),
];

/// Numbers in a header.
struct Header<'a> {
    bytes: &'a [u8],
    is_big: bool,
}

impl Header<'_> {
    /// Returns the number of so many bytes at a place, if it is there.
    fn number(&self, at: usize, len: usize) -> Option<u64> {
        let field = self.bytes.get(at..at.checked_add(len)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.is_big {
            field.iter().fold(0, add)
        } else {
            field.iter().rev().fold(0, add)
        })
    }

    fn small(&self, at: usize, len: usize) -> Option<u32> {
        u32::try_from(self.number(at, len)?).ok()
    }

    fn place(&self, at: usize, len: usize) -> Option<usize> {
        usize::try_from(self.number(at, len)?).ok()
    }
}

fn elf(head: &[u8]) -> Option<Program> {
    /// A program, and one that may lie anywhere in memory. What a linker reads,
    /// such as a kernel's module, is none.
    const TYPES: std::ops::RangeInclusive<u64> = 2..=3;

    let (&class, &data, &abi) = (head.get(4)?, head.get(5)?, head.get(7)?);
    let (is_wide, is_big) = (class == 2, data == 2);
    if !matches!(class, 1 | 2) || !matches!(data, 1 | 2) {
        return None;
    }
    let header = Header {
        bytes: head,
        is_big,
    };
    if !TYPES.contains(&header.number(16, 2)?) {
        return None;
    }
    let machine = header.small(18, 2)?;
    let column = usize::from(is_wide) * 2 + usize::from(is_big);
    let known = ELF_MACHINES
        .iter()
        .find(|(number, _)| *number == machine)
        .map(|(_, names)| names[column])
        .filter(|name| !name.is_empty());
    Some(Program {
        format: ProgramFormat::Elf,
        os: match abi {
            // GNU programs that use what only Linux has say so.
            3 => Some("linux"),
            2 => Some("netbsd"),
            6 => Some("solaris"),
            9 => Some("freebsd"),
            12 => Some("openbsd"),
            _ => None,
        },
        architectures: vec![known.map_or(Architecture::Unknown(machine), Architecture::Known)],
        interpreter: elf_interpreter(&header, is_wide),
    })
}

/// Returns the dynamic loader that a program header names.
fn elf_interpreter(header: &Header<'_>, is_wide: bool) -> Option<Vec<u8>> {
    const INTERPRETER: u64 = 3;

    let (table, entry_size, count) = if is_wide {
        (
            header.place(32, 8)?,
            header.place(54, 2)?,
            header.place(56, 2)?,
        )
    } else {
        (
            header.place(28, 4)?,
            header.place(42, 2)?,
            header.place(44, 2)?,
        )
    };
    for entry in 0..count {
        let at = table.checked_add(entry.checked_mul(entry_size)?)?;
        if header.number(at, 4)? == INTERPRETER {
            let (offset, size) = if is_wide {
                (header.place(at + 8, 8)?, header.place(at + 32, 8)?)
            } else {
                (header.place(at + 4, 4)?, header.place(at + 16, 4)?)
            };
            let name = header.bytes.get(offset..offset.checked_add(size)?)?;
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            return (!name.is_empty()).then(|| name.to_vec());
        }
    }
    None
}

/// Numbers of processors in Mach-O; those with 64 bits have the high bit of
/// `CPU_ARCH_ABI64`.
const MACH_CPUS: &[(u32, &str)] = &[
    (7, "386"),
    (0x0100_0007, "amd64"),
    (12, "arm"),
    (0x0100_000c, "arm64"),
    (0x0200_000c, "arm64"),
    (18, "ppc"),
    (0x0100_0012, "ppc64"),
];

fn mach_o(head: &[u8]) -> Option<Program> {
    /// The most processors that a fat file has. A class of Java begins alike,
    /// and then has a version, 45 or more.
    const MOST: u32 = 20;
    /// Programs, libraries and bundles.
    const TYPES: [u64; 3] = [2, 6, 8];

    let magic = Header {
        bytes: head,
        is_big: true,
    }
    .number(0, 4)?;
    let is_big = matches!(magic, 0xfeed_face | 0xfeed_facf | 0xcafe_babe | 0xcafe_babf);
    let header = Header {
        bytes: head,
        is_big,
    };
    let cpu = |at: usize| -> Option<Architecture> {
        let number = header.small(at, 4)?;
        let known = MACH_CPUS.iter().find(|(known, _)| *known == number);
        Some(known.map_or(Architecture::Unknown(number), |(_, name)| {
            Architecture::Known(name)
        }))
    };
    let architectures = match header.number(0, 4)? {
        0xfeed_face | 0xfeed_facf => {
            TYPES.contains(&header.number(12, 4)?).then_some(())?;
            vec![cpu(4)?]
        }
        magic @ (0xcafe_babe | 0xcafe_babf) => {
            let size = if magic == 0xcafe_babe { 20 } else { 32 };
            let count = header.small(4, 4)?;
            (1..=MOST).contains(&count).then_some(())?;
            let cpus = (0..count as usize).map(|at| cpu(8 + at * size));
            cpus.collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Program {
        format: ProgramFormat::MachO,
        os: Some("darwin"),
        architectures,
        interpreter: None,
    })
}

fn pe(head: &[u8]) -> Option<Program> {
    /// Programs with a window and those without. Others run below a system, as
    /// firmware does.
    const SUBSYSTEMS: std::ops::RangeInclusive<u64> = 1..=9;

    let header = Header {
        bytes: head,
        is_big: false,
    };
    let start = header.place(0x3c, 4)?;
    if head.get(start..start.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let optional = start + 24;
    if !SUBSYSTEMS.contains(&header.number(optional + 68, 2)?) {
        return None;
    }
    let directories = match header.number(optional, 2)? {
        0x10b => optional + 96,
        0x20b => optional + 112,
        _ => return None,
    };
    // The fifteenth directory is that of what a .NET runtime runs, whatever
    // the processor.
    let has_managed =
        header.number(directories - 4, 4)? > 14 && header.number(directories + 14 * 8, 4)? != 0;
    if has_managed {
        return None;
    }
    let machine = header.small(start + 4, 2)?;
    Some(Program {
        format: ProgramFormat::Pe,
        os: Some("windows"),
        architectures: vec![match machine {
            0x14c => Architecture::Known("386"),
            0x8664 => Architecture::Known("amd64"),
            0x1c0 | 0x1c2 | 0x1c4 => Architecture::Known("arm"),
            0xaa64 => Architecture::Known("arm64"),
            other => Architecture::Unknown(other),
        }],
        interpreter: None,
    })
}

fn script(head: &[u8]) -> Option<Program> {
    let line = head[2..].split(|byte| *byte == b'\n').next()?;
    let interpreter = line
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | 0))
        .find(|word| !word.is_empty())?;
    Some(Program {
        format: ProgramFormat::Script,
        os: None,
        architectures: Vec::new(),
        interpreter: Some(interpreter.to_vec()),
    })
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;

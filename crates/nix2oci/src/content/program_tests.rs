//! Headers made by hand, and the programs of this machine.

use super::*;
use crate::oci::parse_platform;

/// The header of a program in ELF.
fn elf_header(class: u8, data: u8, abi: u8, machine: u16) -> Vec<u8> {
    let mut head = vec![0; 64];
    head[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data, 1, abi]);
    let two = |number: u16| match data {
        2 => number.to_be_bytes(),
        _ => number.to_le_bytes(),
    };
    head[16..18].copy_from_slice(&two(2));
    head[18..20].copy_from_slice(&two(machine));
    head
}

/// The header of a program in PE, with so many directories, of which the
/// fifteenth may be set.
fn pe_header(machine: u16, subsystem: u16, is_managed: bool) -> Vec<u8> {
    let mut head = vec![0; 0x80 + 24 + 240];
    head[..2].copy_from_slice(b"MZ");
    head[0x3c] = 0x80;
    head[0x80..0x84].copy_from_slice(b"PE\0\0");
    head[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    let optional = 0x80 + 24;
    head[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
    head[optional + 68..optional + 70].copy_from_slice(&subsystem.to_le_bytes());
    head[optional + 108] = 16;
    head[optional + 112 + 14 * 8] = u8::from(is_managed);
    head
}

fn numbers(numbers: &[u32], is_big: bool) -> Vec<u8> {
    let bytes = |number: &u32| match is_big {
        true => number.to_be_bytes(),
        false => number.to_le_bytes(),
    };
    numbers.iter().flat_map(bytes).collect()
}

#[test]
fn every_processor_has_its_images_name() {
    for (class, data, machine, shown) in [
        (2, 1, 62, "amd64 (ELF)"),
        (1, 1, 62, "amd64 (ELF)"),
        (1, 1, 3, "386 (ELF)"),
        (2, 1, 183, "arm64 (ELF)"),
        (1, 1, 40, "arm (ELF)"),
        (2, 1, 243, "riscv64 (ELF)"),
        (1, 1, 243, "riscv (ELF)"),
        (2, 2, 22, "s390x (ELF)"),
        (2, 1, 21, "ppc64le (ELF)"),
        (2, 2, 21, "ppc64 (ELF)"),
        (1, 1, 8, "mipsle (ELF)"),
        (2, 2, 8, "mips64 (ELF)"),
        (2, 1, 258, "loong64 (ELF)"),
        (2, 1, 50, "processor 50 (ELF)"),
        // Such a one does not exist: 64 bits of 386.
        (2, 1, 3, "processor 3 (ELF)"),
    ] {
        let program = Program::parse(&elf_header(class, data, 0, machine)).unwrap();
        assert_eq!(program.to_string(), shown, "{class} {data} {machine}");
    }
    for (abi, os) in [
        (0, None),
        (3, Some("linux")),
        (9, Some("freebsd")),
        (97, None),
    ] {
        let program = Program::parse(&elf_header(2, 1, abi, 62)).unwrap();
        assert_eq!(program.os, os, "{abi}");
    }
}

#[test]
fn other_systems_have_formats_of_their_own() {
    // A magic number, the processor, its kind, and the file's type.
    let thin = |magic, cpu, kind, is_big| numbers(&[magic, cpu, 0, kind, 0, 0], is_big);
    let fat = |cpus: &[u32]| {
        let count = u32::try_from(cpus.len()).unwrap();
        let each = cpus.iter().flat_map(|cpu| [*cpu, 0, 0x4000, 1, 14]);
        let all: Vec<u32> = [0xcafe_babe, count].into_iter().chain(each).collect();
        numbers(&all, true)
    };
    for (head, shown) in [
        (
            thin(0xfeed_facf, 0x0100_000c, 2, false),
            "darwin/arm64 (Mach-O)",
        ),
        (
            thin(0xfeed_facf, 0x0100_0007, 6, false),
            "darwin/amd64 (Mach-O)",
        ),
        (thin(0xfeed_face, 18, 2, true), "darwin/ppc (Mach-O)"),
        (
            fat(&[0x0100_0007, 0x0100_000c]),
            "darwin/amd64,arm64 (Mach-O)",
        ),
        (pe_header(0x8664, 3, false), "windows/amd64 (PE)"),
        (pe_header(0xaa64, 2, false), "windows/arm64 (PE)"),
    ] {
        let program = Program::parse(&head).unwrap();
        assert_eq!(program.to_string(), shown);
    }
}

#[test]
fn what_runs_anywhere_or_nowhere_is_no_program() {
    // A class of Java 21 begins as a fat Mach-O.
    let class_file = numbers(&[0xcafe_babe, 65], true);
    let mut module = elf_header(2, 1, 0, 62);
    module[16] = 1;
    for head in [
        &b""[..],
        b"#",
        b"#!",
        b"#! \n",
        b"MZ",
        b"\x7fELF",
        b"text",
        &class_file,
        &module,
        &numbers(&[0xfeed_facf, 0x0100_000c, 0, 1], false),
        &pe_header(0x8664, 10, false),
        &pe_header(0x14c, 3, true),
    ] {
        assert_eq!(Program::parse(head), None, "{}", head.escape_ascii());
    }
}

#[test]
fn a_processor_runs_its_own_32_bits() {
    let runs = |head: &[u8], platform: &str| {
        let platform = parse_platform(platform).unwrap();
        Program::parse(head).unwrap().runs_on(&platform)
    };
    let amd64 = elf_header(2, 1, 0, 62);
    for (head, platform, expected) in [
        (&amd64, "linux/amd64", true),
        (&amd64, "linux/amd64/v3", true),
        (&amd64, "freebsd/amd64", true),
        (&amd64, "linux/arm64", false),
        (&amd64, "linux/386", false),
        (&amd64, "windows/amd64", false),
        (&elf_header(1, 1, 0, 3), "linux/amd64", true),
        (&elf_header(1, 1, 0, 40), "linux/arm64", true),
        (&elf_header(2, 1, 0, 183), "linux/arm/v7", false),
        (&elf_header(2, 1, 9, 62), "linux/amd64", false),
        (&elf_header(2, 1, 3, 62), "linux/amd64", true),
        (&elf_header(2, 1, 0, 50), "linux/amd64", false),
        // Nobody can tell what runs on it.
        (&amd64, "linux/wonder9", true),
        (&b"#!/bin/sh\n".to_vec(), "linux/arm64", true),
        (&pe_header(0x8664, 3, false), "linux/amd64", false),
        (&pe_header(0x8664, 3, false), "windows/amd64", true),
    ] {
        assert_eq!(runs(head, platform), expected, "{platform}");
    }
    let fat = numbers(
        &[
            0xcafe_babe,
            2,
            0x0100_0007,
            0,
            0,
            0,
            0,
            0x0100_000c,
            0,
            0,
            0,
            0,
        ],
        true,
    );
    assert!(runs(&fat, "darwin/arm64"));
    assert!(!runs(&fat, "linux/arm64"));
}

#[test]
fn who_starts_a_program_is_told() {
    for (head, interpreter) in [
        (&b"#!/bin/sh\n"[..], "/bin/sh"),
        (b"#! /usr/bin/env bash", "/usr/bin/env"),
        (
            b"#!\t/nix/store/x/bin/python3 -I\r\n",
            "/nix/store/x/bin/python3",
        ),
    ] {
        let program = Program::parse(head).unwrap();
        assert_eq!(program.format, ProgramFormat::Script);
        assert_eq!(program.interpreter.as_deref(), Some(interpreter.as_bytes()));
    }

    // One program header after the header, which names a loader at byte 120.
    let mut head = elf_header(2, 1, 0, 62);
    head[32] = 64;
    head[54] = 56;
    head[56] = 1;
    head.resize(64 + 56, 0);
    head[64] = 3;
    head[72] = 120;
    head[96] = 8;
    head.extend_from_slice(b"/lib/ld\0");
    let interpreter = |head: &[u8]| Program::parse(head).unwrap().interpreter;
    assert_eq!(interpreter(&head).as_deref(), Some(&b"/lib/ld"[..]));
    assert_eq!(interpreter(&head[..124]), None, "it lies too far behind");
    head[72..80].fill(0xff);
    assert_eq!(interpreter(&head), None);
}

#[cfg(target_os = "linux")]
#[test]
fn programs_of_this_machine_run_on_it() {
    let own = std::fs::read("/proc/self/exe").unwrap();
    let program = Program::parse(&own[..Program::HEAD]).unwrap();
    assert_eq!(program.format, ProgramFormat::Elf);
    let machine = match std::env::consts::ARCH {
        "x86" => "386",
        other => other,
    };
    let here = parse_platform(&format!("linux/{machine}")).unwrap();
    assert!(program.runs_on(&here), "{program}");
    assert!(!program.runs_on(&parse_platform("linux/s390x").unwrap()));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(start in 0..5_usize, rest: Vec<u8>) {
        let magic: [&[u8]; 5] = [
            b"\x7fELF\x02\x01", b"#!", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe",
        ];
        let head = [magic[start], &rest].concat();
        if let Some(program) = Program::parse(&head) {
            proptest::prop_assert!(!program.to_string().is_empty());
        }
    }
}

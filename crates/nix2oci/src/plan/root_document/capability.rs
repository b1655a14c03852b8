//! Capabilities that a program gets from its file.
//!
//! Sources: cap_from_text(3) for the text; `vfs_cap_data` of Linux 6.12,
//! `include/uapi/linux/capability.h`, for the bytes and the names.

use std::str::FromStr;

/// Names in the order of their bits, without `cap_`.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// `VFS_CAP_REVISION_2`.
const REVISION_2: u32 = 0x0200_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`.
const EFFECTIVE: u32 = 1;

/// The capabilities of a program file, as `setcap` takes them: such as
/// `cap_net_bind_service=ep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCapabilities {
    permitted: u64,
    inheritable: u64,
    is_effective: bool,
}

impl FileCapabilities {
    /// The extended attribute that holds them.
    pub const XATTR: &'static str = "security.capability";

    /// Returns the value of the attribute: version 2, which every Linux since
    /// 2.6.25 reads, in the initial user namespace or in that of the container.
    pub fn to_bytes(self) -> Vec<u8> {
        let flags = if self.is_effective { EFFECTIVE } else { 0 };
        let (low, high) = (|set: u64| set as u32, |set: u64| (set >> 32) as u32);
        [
            REVISION_2 | flags,
            low(self.permitted),
            low(self.inheritable),
            high(self.permitted),
            high(self.inheritable),
        ]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
    }
}

/// A text is not what [`FileCapabilities`] are written as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a set of capabilities: {problem}")]
pub struct ParseCapabilitiesError {
    text: String,
    problem: String,
}

impl FromStr for FileCapabilities {
    type Err = ParseCapabilitiesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| ParseCapabilitiesError {
            text: text.to_owned(),
            problem,
        })
    }
}

/// Reads clauses of names, an operator and flags: `cap_chown,cap_kill+ep`.
fn parse(text: &str) -> Result<FileCapabilities, String> {
    let expected = "expected clauses such as cap_net_bind_service=ep";
    let (mut effective, mut permitted, mut inheritable) = (0, 0, 0);
    let mut clauses = text.split_ascii_whitespace().peekable();
    if clauses.peek().is_none() {
        return Err(expected.to_owned());
    }
    for clause in clauses {
        let at = clause.find(['=', '+', '-']).ok_or(expected)?;
        let (names, actions) = clause.split_at(at);
        let set = names_set(names, actions.starts_with('='))?;
        let mut operator = '=';
        for (n, sign) in actions.char_indices() {
            let flags = match sign {
                '=' | '+' | '-' => {
                    operator = sign;
                    if sign == '=' && n == 0 {
                        effective &= !set;
                        permitted &= !set;
                        inheritable &= !set;
                    } else if sign == '=' {
                        return Err(expected.to_owned());
                    }
                    continue;
                }
                'e' => &mut effective,
                'p' => &mut permitted,
                'i' => &mut inheritable,
                _ => return Err(format!("{sign:?} is none of the flags e, i and p")),
            };
            match operator {
                '-' => *flags &= !set,
                _ => *flags |= set,
            }
        }
    }
    // A file has one bit for all of them.
    if effective != 0 && effective != permitted | inheritable {
        return Err(
            "a file's capabilities are all effective or none: say e for all that have i or p"
                .to_owned(),
        );
    }
    Ok(FileCapabilities {
        permitted,
        inheritable,
        is_effective: effective != 0,
    })
}

/// Reads names with commas; none stand for all where `=` follows.
fn names_set(names: &str, may_be_empty: bool) -> Result<u64, String> {
    let all = (1 << NAMES.len()) - 1;
    if names.is_empty() && may_be_empty {
        return Ok(all);
    }
    let mut set = 0;
    for name in names.split(',') {
        let lower = name.to_ascii_lowercase();
        if lower == "all" {
            set |= all;
            continue;
        }
        let known = lower.strip_prefix("cap_");
        let bit = known.and_then(|known| NAMES.iter().position(|name| *name == known));
        set |= 1 << bit.ok_or_else(|| format!("there is no capability {name:?}"))?;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        let capabilities: FileCapabilities = text.parse().unwrap();
        data_encoding::HEXLOWER.encode(&capabilities.to_bytes())
    }

    #[test]
    fn the_bytes_are_those_that_setcap_writes() {
        // Read back with getfattr after setcap of libcap 2.66.
        for (text, bytes) in [
            (
                "cap_net_bind_service=ep",
                "0100000200040000000000000000000000000000",
            ),
            ("cap_net_raw+p", "0000000200200000000000000000000000000000"),
            (
                "cap_chown,CAP_KILL=eip cap_kill-ei cap_chown-e",
                "0000000221000000010000000000000000000000",
            ),
            ("cap_bpf=ep", "0100000200000000000000008000000000000000"),
            ("all=ep", "01000002ffffffff00000000ff01000000000000"),
            ("=", "0000000200000000000000000000000000000000"),
        ] {
            assert_eq!(hex(text), bytes, "{text}");
        }
        assert_eq!(hex("=ep"), hex("all=ep"));
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, problem) in [
            ("", "expected clauses"),
            ("cap_chown", "expected clauses"),
            ("cap_fly=ep", "there is no capability \"cap_fly\""),
            ("chown=ep", "there is no capability \"chown\""),
            ("cap_chown=x", "'x' is none of the flags"),
            ("+ep", "there is no capability \"\""),
            ("cap_chown+p cap_kill=ep", "all effective or none"),
        ] {
            let error = text.parse::<FileCapabilities>().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}

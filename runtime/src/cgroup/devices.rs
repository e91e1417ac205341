//! Which devices a container may use: rule files on version 1, a BPF program on version 2.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Allows one kind of access; what no rule allows is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub kind: DeviceKind,
    /// `None` is any.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    All,
    Character,
    Block,
}

impl Rule {
    pub fn everything() -> Self {
        Rule { kind: DeviceKind::All, major: None, minor: None, read: true, write: true, mknod: true }
    }

    pub fn is_everything(&self) -> bool {
        *self == Rule::everything()
    }

    fn character(major: u32, minor: Option<u32>) -> Self {
        Rule { kind: DeviceKind::Character, major: Some(major), minor, read: true, write: true, mknod: true }
    }

    /// Any device node may be made (it opens only by another rule); these may be used.
    pub fn defaults() -> Vec<Self> {
        let make = |kind| Rule { kind, major: None, minor: None, read: false, write: false, mknod: true };
        let mut rules = vec![make(DeviceKind::Character), make(DeviceKind::Block)];
        // null, zero, full, random, urandom, tty, console, ptmx, pts.
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
            rules.push(Rule::character(major, Some(minor)));
        }
        rules.push(Rule::character(136, None));
        rules
    }
}

/// cgroup v1's form: `c 1:3 rwm`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (allowed, letter) in [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')] {
            if allowed {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

// struct bpf_cgroup_dev_ctx { access_type, major, minor }: the low half of access_type is the kind, the high half
// the access.
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

const fn load_word(destination: u8, source: u8, offset: i16) -> Instruction {
    instruction(0x61, destination, source, offset, 0)
}

const fn jump_not_equal(register: u8, value: i32) -> Instruction {
    // The distance is filled in when the block's length is known.
    instruction(0x55, register, 0, 0, value)
}

const fn set(register: u8, value: i32) -> Instruction {
    instruction(0xb7, register, 0, 0, value)
}

const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);

/// r2 = kind, r3 = access, r4 = major, r5 = minor; one block per rule, then denial.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        load_word(2, 1, 0),
        instruction(0x54, 2, 0, 0, 0xffff),
        load_word(3, 1, 0),
        instruction(0x74, 3, 0, 0, 16),
        load_word(4, 1, 4),
        load_word(5, 1, 8),
    ];
    for rule in rules {
        code.extend(block(rule));
    }
    code.extend([set(0, 0), EXIT]);
    code
}

fn block(rule: &Rule) -> Vec<Instruction> {
    let mut code = Vec::with_capacity(8);
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Character => code.push(jump_not_equal(2, KIND_CHARACTER)),
        DeviceKind::Block => code.push(jump_not_equal(2, KIND_BLOCK)),
    }
    let mut allowed = 0;
    for (flag, bit) in [(rule.read, ACCESS_READ), (rule.write, ACCESS_WRITE), (rule.mknod, ACCESS_MKNOD)] {
        allowed |= if flag { bit } else { 0 };
    }
    if allowed != ACCESS_READ | ACCESS_WRITE | ACCESS_MKNOD {
        // Every access that is asked for must be allowed: r1 = r3 & allowed; if r1 != r3 skip.
        code.push(instruction(0xbc, 1, 3, 0, 0));
        code.push(instruction(0x54, 1, 0, 0, allowed));
        code.push(instruction(0x5d, 1, 3, 0, 0));
    }
    if let Some(major) = rule.major {
        code.push(jump_not_equal(4, major as i32));
    }
    if let Some(minor) = rule.minor {
        code.push(jump_not_equal(5, minor as i32));
    }
    code.extend([set(0, 1), EXIT]);
    let length = code.len() as i16;
    for (index, jump) in code.iter_mut().enumerate() {
        if matches!(jump.code, 0x55 | 0x5d) {
            jump.offset = length - index as i16 - 1;
        }
    }
    code
}

/// Attaches a program that enforces the rules to a version 2 cgroup. A program attached before stays too: access
/// needs the consent of all, so call it once, on a new cgroup.
pub fn attach_filter(cgroup: &Path, rules: &[Rule]) -> io::Result<()> {
    if rules.iter().any(Rule::is_everything) {
        return Ok(());
    }
    let program = load(&program(rules))?;
    let directory = std::fs::File::open(cgroup)?;
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: u32,
    }
    let attributes = Attach {
        target_fd: directory.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    // SAFETY: `attributes` has the layout bpf(2) gives for this command, and lives over the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &attributes, size_of::<Attach>()) };
    crate::sys::check(result).map(drop)
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    let attributes = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `attributes` has the layout bpf(2) gives for this command; it and all it points to live over the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &attributes, size_of::<Load>()) };
    let fd = crate::sys::check(fd)?;
    // SAFETY: the descriptor was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn allows(rules: &[Rule], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let code = program(rules);
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 11];
        let mut at = 0;
        loop {
            let i = code[at];
            let (destination, source) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            at += 1;
            match i.code {
                0x61 => registers[destination] = i64::from(context[i.offset as usize / 4]),
                0x54 => registers[destination] &= i64::from(i.immediate),
                0x74 => registers[destination] >>= i.immediate,
                0xbc => registers[destination] = registers[source],
                0xb7 => registers[destination] = i64::from(i.immediate),
                0x55 if registers[destination] != i64::from(i.immediate) => at += i.offset as usize,
                0x5d if registers[destination] != registers[source] => at += i.offset as usize,
                0x55 | 0x5d => {}
                0x95 => return registers[0] == 1,
                other => panic!("unexpected instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_allows_what_the_rules_allow() {
        let rules = Rule::defaults();
        assert!(allows(&rules, KIND_CHARACTER, ACCESS_READ | ACCESS_WRITE, 1, 3));
        assert!(allows(&rules, KIND_CHARACTER, ACCESS_READ, 136, 7));
        assert!(allows(&rules, KIND_BLOCK, ACCESS_MKNOD, 8, 0));
        assert!(!allows(&rules, KIND_BLOCK, ACCESS_READ, 8, 0));
        assert!(!allows(&rules, KIND_BLOCK, ACCESS_READ | ACCESS_MKNOD, 8, 0));
        assert!(!allows(&rules, KIND_CHARACTER, ACCESS_WRITE, 1, 1));
    }

    #[test]
    fn rules_read_as_version_one_writes_them() {
        let text: Vec<String> = Rule::defaults().iter().map(Rule::to_string).collect();
        assert_eq!(text[0], "c *:* m");
        assert_eq!(text[2], "c 1:3 rwm");
        assert_eq!(text[10], "c 136:* rwm");
    }
}

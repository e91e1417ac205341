//! From root inside the container's namespaces to the container's own program: the last steps, the same for a
//! container's init and for an exec. The order matters; each step says why where it is not obvious.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::launch::{Capabilities, Process, Rlimit};
use super::protocol::Failure;

/// Becomes the program. Returns only if that failed.
///
/// Must run in a process of its own with one thread: ids and capabilities are set for the calling thread.
pub fn become_program(process: &Process, filter: Option<&[u8]>) -> Failure {
    match prepare(process, filter).and_then(|()| execute(process)) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn prepare(process: &Process, filter: Option<&[u8]>) -> Result<(), Failure> {
    default_signals().map_err(step("reset signals"))?;
    for limit in &process.rlimits {
        set_limit(limit).map_err(step("set rlimits"))?;
    }
    // As root first: the user may not reach the directory, which is no reason not to start there.
    let early = enter_working_directory(&process.cwd);
    let groups: Vec<Gid> = process.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(step("set supplementary groups"))?;
    // Without no-new-privs only CAP_SYS_ADMIN may install a filter, so before it goes.
    if !process.no_new_privs {
        install_filter(filter, process.seccomp_flags)?;
    }
    drop_bounding(process.capabilities.bounding).map_err(step("drop bounding capabilities"))?;
    set_ids(process.uid, process.gid).map_err(step("set user"))?;
    set_capabilities(process.capabilities).map_err(step("apply capabilities"))?;
    if early.is_err() {
        std::env::set_current_dir(&process.cwd).map_err(|error| {
            failure(format!("chdir to cwd ({:?}) set in config.json failed: {}", process.cwd, text(&error)))
        })?;
    }
    working_directory_is_inside()?;
    if process.no_new_privs {
        rustix::thread::set_no_new_privs(true).map_err(step("set no-new-privs"))?;
        install_filter(filter, process.seccomp_flags)?;
    }
    Ok(())
}

/// Only the giving up of privileges, for a process that goes on with code of ours.
pub fn confine(process: &Process) -> Result<(), Failure> {
    rustix::thread::set_thread_groups(&[]).map_err(step("set supplementary groups"))?;
    drop_bounding(0).map_err(step("drop bounding capabilities"))?;
    set_ids(process.uid, process.gid).map_err(step("set user"))?;
    set_capabilities(Capabilities::default()).map_err(step("apply capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(step("set no-new-privs"))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(step("hide from the pod"))
}

/// A missing one is made, as runc does.
fn enter_working_directory(path: &str) -> io::Result<()> {
    match std::env::set_current_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path)?;
            std::env::set_current_dir(path)
        }
        other => other,
    }
}

fn failure(message: String) -> Failure {
    Failure { message, exit_code: Some(128) }
}

fn step<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> Failure {
    move |error| failure(format!("unable to {doing}: {}", text(&error.into())))
}

/// An error's text as Go prints it: `no such file or directory`.
pub fn text(error: &io::Error) -> String {
    let full = error.to_string();
    let plain = full.split(" (os error").next().unwrap_or(&full);
    let mut characters = plain.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// The shim blocks and ignores signals, which exec would pass on.
fn default_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of ours.
            unsafe { sigaction(signal, &default) }?;
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// A limit above our own hard limit is clamped where we may not raise it.
fn set_limit(limit: &Rlimit) -> io::Result<()> {
    let wanted = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: reads one structure that lives over the call.
    if unsafe { libc::setrlimit64(limit.resource as _, &wanted) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EPERM) {
        return Err(error);
    }
    let mut current = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one structure that lives over the call.
    crate::sys::check(i64::from(unsafe { libc::getrlimit64(limit.resource as _, &mut current) }))?;
    let hard = limit.hard.min(current.rlim_max);
    let clamped = libc::rlimit64 { rlim_cur: limit.soft.min(hard), rlim_max: hard };
    // SAFETY: as above.
    crate::sys::check(i64::from(unsafe { libc::setrlimit64(limit.resource as _, &clamped) })).map(drop)
}

fn install_filter(filter: Option<&[u8]>, flags: u64) -> Result<(), Failure> {
    let Some(filter) = filter else { return Ok(()) };
    let program = libc::sock_fprog {
        len: (filter.len() / size_of::<libc::sock_filter>()) as u16,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies `len` instructions, which is what the buffer holds, and validates them. It reads
    // them as bytes, so that alignment does not matter.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) };
    crate::sys::check(result).map(drop).map_err(step("init seccomp"))
}

fn drop_bounding(keep: u64) -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) if keep & (1 << number) == 0 => {
                rustix::thread::remove_capability_from_bounding_set(capability)?;
            }
            Ok(_) => {}
            // Past the last capability this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // Leaving uid 0 would clear the permitted set, which set_capabilities still needs.
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_keep_capabilities(false)?;
    Ok(())
}

fn set_capabilities(wanted: Capabilities) -> io::Result<()> {
    let held = rustix::thread::capabilities(None)?.permitted.bits();
    let within = |mask: u64| CapabilitySet::from_bits_retain(mask & held);
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: within(wanted.effective),
            permitted: within(wanted.permitted),
            inheritable: within(wanted.inheritable),
        },
    )?;
    for number in (0..64).filter(|number| wanted.ambient & held & (1 << number) != 0) {
        rustix::thread::configure_capability_in_ambient_set(
            CapabilitySet::from_bits_retain(1 << number),
            true,
        )?;
    }
    Ok(())
}

/// A working directory like /proc/self/fd/7 of a leaked host descriptor would be a way out (CVE-2024-21626).
fn working_directory_is_inside() -> Result<(), Failure> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NOENT) => {
            Err(failure("current working directory is outside of container mount namespace root -- possible container breakout detected".to_owned()))
        }
        Err(error) => Err(step("verify the working directory")(error)),
    }
}

enum Never {}

fn execute(process: &Process) -> Result<Never, Failure> {
    let name = process.args.first().ok_or_else(|| failure("no command".to_owned()))?;
    let path = find_program(name, &process.env)?;
    let invalid = |_| failure(format!("exec: {name:?}: invalid argument"));
    let program = CString::new(path.as_os_str().as_encoded_bytes()).map_err(invalid)?;
    let arguments: Vec<CString> =
        process.args.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<_, _>>().map_err(invalid)?;
    let environment: Vec<CString> =
        process.env.iter().map(|e| CString::new(e.as_bytes())).collect::<Result<_, _>>().map_err(invalid)?;
    match nix::unistd::execve(&program, &arguments, &environment) {
        Ok(never) => match never {},
        Err(error) => {
            let message = format!("exec {}: {}", path.display(), text(&error.into()));
            Err(Failure { message, exit_code: Some(126) })
        }
    }
}

/// Looks a program up as Go's exec.LookPath does, whose words users know.
fn find_program(name: &str, environment: &[String]) -> Result<PathBuf, Failure> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure {
                message: format!("exec: {name:?}: stat {name}: {}", text(&error)),
                exit_code: Some(127),
            }),
            Err(error) => {
                Err(Failure { message: format!("exec: {name:?}: {}", text(&error)), exit_code: Some(126) })
            }
        };
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
    let mut denied = false;
    for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
        let candidate = Path::new(directory).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    let (reason, exit_code) =
        if denied { ("permission denied", 126) } else { ("executable file not found in $PATH", 127) };
    Err(Failure { message: format!("exec: {name:?}: {reason}"), exit_code: Some(exit_code) })
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> (String, Option<i32>) {
        let failure = find_program(name, &["PATH=/usr/bin:/bin".to_owned()]).expect_err("not runnable");
        (failure.message, failure.exit_code)
    }

    #[test]
    fn programs_that_cannot_run_are_described_as_runc_does() {
        assert_eq!(
            message("no-such"),
            ("exec: \"no-such\": executable file not found in $PATH".to_owned(), Some(127))
        );
        assert_eq!(
            message("/no/such"),
            ("exec: \"/no/such\": stat /no/such: no such file or directory".to_owned(), Some(127))
        );
        assert_eq!(message("/etc"), ("exec: \"/etc\": is a directory".to_owned(), Some(126)));
    }

    #[test]
    fn programs_are_found_by_path() {
        let found = find_program("sh", &["PATH=/nowhere:/bin".to_owned()]).expect("a shell");
        assert_eq!(found, Path::new("/bin/sh"));
    }
}

//! Why io_uring cannot be used here, in one sentence with the fix.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, squeue};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// A ring could not be set up.
#[derive(Debug)]
pub enum RingError {
    /// `kernel.io_uring_disabled` forbids it.
    Sysctl(String),
    /// A seccomp filter, as in Docker's default profile, refuses the system call.
    Seccomp,
    /// The kernel is older than 6.1, or was built without io_uring.
    Kernel(String),
    /// RLIMIT_MEMLOCK is too low.
    Memory,
    /// RLIMIT_NOFILE is below the size of the file table.
    Files,
    /// Anything else, with what was being done.
    Setup(&'static str, io::Error),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Sysctl(value) => write!(
                f,
                "io_uring is switched off by sysctl (kernel.io_uring_disabled = {value}): set it to 0, or to 1 and run \
                 sockring in the group named by kernel.io_uring_group"
            ),
            RingError::Seccomp => write!(
                f,
                "io_uring is refused by a seccomp filter (Docker's default profile does that): run the container with a \
                 profile that allows io_uring_setup, io_uring_enter and io_uring_register, or with \
                 --security-opt seccomp=unconfined"
            ),
            RingError::Kernel(release) => write!(
                f,
                "this kernel ({release}) has no io_uring that sockring can use: Linux 6.1 or newer, built with \
                 CONFIG_IO_URING, is needed"
            ),
            RingError::Memory => write!(
                f,
                "io_uring could not lock memory: raise RLIMIT_MEMLOCK (ulimit -l, or LimitMEMLOCK= in systemd)"
            ),
            RingError::Files => write!(
                f,
                "the limit of open files is below the size of a file table: raise RLIMIT_NOFILE (ulimit -n, or \
                 LimitNOFILE= in systemd), or lower connections_max"
            ),
            RingError::Setup(what, error) => write!(f, "io_uring failed while {what}: {error}"),
        }
    }
}

impl std::error::Error for RingError {}

/// Whether RLIMIT_MEMLOCK holds for the rings of this process.
pub fn is_memory_limited() -> bool {
    let is_exempt = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    !is_exempt && getrlimit(Resource::Memlock).current.is_some()
}

/// Sets up a smallest ring, enters it, asks it something, and drops it: says whether this process may use io_uring as sockring
/// does. A filter may allow one of the three calls and not the others.
pub fn requirements() -> Result<(), RingError> {
    let mut builder = IoUring::<squeue::Entry>::builder();
    builder.setup_submit_all().setup_single_issuer().setup_defer_taskrun();
    let ring = builder.build(2).map_err(explain)?;
    ring.submit().map_err(explain)?;
    ring.submitter().register_probe(&mut Probe::new()).map_err(explain)
}

/// What a failed `io_uring_setup` means on this machine.
pub fn explain(error: io::Error) -> RingError {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    classify(error, release, disabled.as_deref().map(str::trim))
}

fn classify(error: io::Error, release: String, disabled: Option<&str>) -> RingError {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(value @ ("1" | "2"))) => RingError::Sysctl(value.to_owned()),
        (Some(libc::EPERM | libc::EACCES), _) => RingError::Seccomp,
        // A filter may also answer ENOSYS; on a kernel that is new enough it is the likelier reason.
        (Some(libc::ENOSYS), _) if is_new_enough(&release) => RingError::Seccomp,
        (Some(libc::ENOSYS | libc::EINVAL), _) => RingError::Kernel(release),
        (Some(libc::ENOMEM), _) => RingError::Memory,
        _ => RingError::Setup("setting up", error),
    }
}

/// The oldest kernel that has all that is used here.
const KERNEL_LEAST: (u32, u32) = (6, 1);

/// Whether a kernel release, as `6.1.0-18-amd64`, is at least the oldest one that will do.
pub fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= KERNEL_LEAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_names_its_reason() {
        let table = [
            (libc::EPERM, "6.6.1", Some("2"), "kernel.io_uring_disabled = 2"),
            (libc::EPERM, "6.6.1", Some("0"), "seccomp"),
            (libc::ENOSYS, "6.6.1", Some("0"), "seccomp"),
            (libc::ENOSYS, "6.1.0-18-amd64", None, "seccomp"),
            (libc::ENOSYS, "5.4.0", None, "5.4.0"),
            (libc::EINVAL, "5.19.0", None, "Linux 6.1 or newer"),
            (libc::ENOMEM, "6.6.1", Some("0"), "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "6.6.1", Some("0"), "while setting up"),
        ];
        for (errno, release, disabled, words) in table {
            let error = classify(io::Error::from_raw_os_error(errno), release.to_owned(), disabled);
            assert!(error.to_string().contains(words), "{errno}: {error}");
        }
    }
}

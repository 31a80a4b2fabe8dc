//! Child processes that never outlive the process that started them.
//!
//! The kernel's parent-death signal does the work, so that it also holds when
//! the owner is killed with -9. That signal follows the *thread* that forked,
//! and libtest ends a thread with each test: hence one thread of this module
//! forks every child and lives as long as the process.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Interval of a wait's checks.
const POLL: Duration = Duration::from_millis(20);

/// A running child whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`. When this process
    /// ends, for whatever reason, the child gets `on_owner_death`.
    pub fn start(name: &str, mut command: Command, log: &Path, on_owner_death: i32) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log file {} of {name}", log.display()))?;
        let errors = output.try_clone().context("cannot share a log file")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        die_with_owner(&mut command, on_owner_death);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = fork_from_the_lasting_thread(command)
            .with_context(|| format!("cannot start {name}: {program} does not run"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has ended takes none, which is no error.
    pub fn signal(&self, signal: i32) {
        // SAFETY: plain system call; the child is not reaped before `self`
        // says so, so the id cannot belong to anybody else.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// The exit status, or `None` while it runs.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask whether {} still runs", self.name))
    }

    /// Waits for the end, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} (process {}) did not end within {limit:?}", self.name, self.id());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends `signal` and waits; kills it with -9 when it takes longer than
    /// `patience`, so that a stop always ends.
    pub fn stop(&mut self, signal: i32, patience: Duration) -> Result<ExitStatus> {
        self.signal(signal);
        if let Ok(status) = self.wait(patience) {
            return Ok(status);
        }
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10))
    }

    /// Waits until `ready` says so, and fails at once when the process ends.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if ready() {
                return Ok(());
            }
            if let Some(status) = self.exited()? {
                bail!(
                    "{} ended before it was ready ({}); its log ends with:\n{}",
                    self.name,
                    describe(status),
                    self.log_tail(40)
                );
            }
            if Instant::now() >= deadline {
                bail!("{} was not ready within {limit:?}; its log ends with:\n{}", self.name, self.log_tail(40));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(libc::SIGKILL);
            self.child.wait().ok();
        }
    }
}

/// A process and its children that stand still until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    processes: Vec<u32>,
}

impl Frozen {
    /// Freezes a process with its children.
    #[must_use]
    pub fn with_children(process: &Process) -> Self {
        let mut frozen = Self { processes: Vec::new() };
        // The parent first: it could start more children.
        frozen.freeze(process.id());
        children_of(process.id()).into_iter().for_each(|child| frozen.freeze(child));
        frozen
    }

    fn freeze(&mut self, process: u32) {
        signal(process, libc::SIGSTOP);
        self.processes.push(process);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.processes.iter().rev().for_each(|process| signal(*process, libc::SIGCONT));
    }
}

fn signal(process: u32, signal: i32) {
    // SAFETY: plain system call on a child of this process, or a child of that. A
    // frozen process does not end, so its id is not reused.
    unsafe { libc::kill(process.cast_signed(), signal) };
}

/// The children of a process, as the kernel lists them (proc(5): the fourth
/// field of `stat`, counted after the command in parentheses).
#[must_use]
pub fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        of == Some(parent)
    };
    ids.filter(is_child).collect()
}

/// How a process ended, in words.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The last lines of a file; an unreadable one is described instead.
#[must_use]
pub fn tail(file: &Path, lines: usize) -> String {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", file.display()),
    }
}

/// Lets the kernel send `signal` to the child when its owner ends.
pub fn die_with_owner(command: &mut Command, signal: i32) {
    let owner = std::process::id().cast_signed();
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    // The hook runs after std has changed the user id, which matters: a change
    // of credentials clears the parent-death signal.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The owner may have died before the line above took effect.
            if libc::getppid() != owner {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

type Fork = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns from the one thread that lives as long as this process does.
fn fork_from_the_lasting_thread(command: Command) -> io::Result<Child> {
    static FORKER: LazyLock<Mutex<mpsc::Sender<Fork>>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Fork>();
        let forker = move || {
            for (mut command, answer) in requests {
                answer.send(command.spawn()).ok();
            }
        };
        std::thread::Builder::new().name("forker".to_owned()).spawn(forker).expect("a thread can be started");
        Mutex::new(sender)
    });
    let (answer, child) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    FORKER.lock().unwrap_or_else(PoisonError::into_inner).send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// A TCP port on which nobody listens.
///
/// It is taken from below the range that the kernel hands to outgoing
/// connections: a server that is stopped and started again must find its port
/// free, and any client on the machine could have been given it meanwhile.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 17_000;
    const COUNT: u32 = 15_000;
    // Processes begin at different places; within one, no port comes twice.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(97) % COUNT));
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(port).expect("the range lies below 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free TCP port between {FIRST} and {}", FIRST + COUNT)
}

/// A directory of this process below the system's temporary one, removed when
/// the process exits. What a killed run left behind goes at the next start.
pub fn run_directory() -> Result<PathBuf> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = MADE.get() {
        return Ok(directory.clone());
    }
    const PREFIX: &str = "courier-run-";
    let parent = std::env::temp_dir();
    if let Ok(entries) = std::fs::read_dir(&parent) {
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|id| id.parse::<u32>().ok());
            if owner.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
    let directory = parent.join(format!("{PREFIX}{}", std::process::id()));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    // PostgreSQL runs as another user below it.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&directory, open).with_context(|| format!("cannot open up {}", directory.display()))?;
    extern "C" fn remove() {
        if std::env::var_os("COURIER_TEST_KEEP").is_some() {
            return;
        }
        if let Some(directory) = MADE.get() {
            std::fs::remove_dir_all(directory).ok();
        }
    }
    // SAFETY: `remove` is a plain function without arguments, as atexit asks.
    unsafe { libc::atexit(remove) };
    Ok(MADE.get_or_init(|| directory).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let directory = run_directory().unwrap();
        let log = directory.join("sleep.log");
        let asked = std::thread::spawn(move || {
            let mut sleep = Command::new("sleep");
            sleep.arg("30");
            Process::start("sleep", sleep, &log, libc::SIGKILL).unwrap()
        });
        let mut sleep = asked.join().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(sleep.exited().unwrap().is_none(), "the child died with the thread");
        let status = sleep.stop(libc::SIGTERM, Duration::from_secs(5)).unwrap();
        assert_eq!(describe(status), "killed by signal 15");
    }

    #[test]
    fn ports_differ_and_lie_below_the_ephemeral_range() {
        let (one, two) = (free_port().unwrap(), free_port().unwrap());
        assert_ne!(one, two);
        assert!(one < 32_768 && two < 32_768);
    }
}

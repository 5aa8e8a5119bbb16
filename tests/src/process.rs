//! A child process that cannot outlive the test.
//!
//! Owns the child, its log file and the ports handed out in this test process. A [`Process`] is
//! killed when dropped. Values in statics are never dropped, and a test process may itself be
//! killed, so Linux is also asked to kill the child when its parent goes (`setpriv --pdeathsig`).
//!
//! Never signals anything but a child it started, by pid.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How much of a log [`Process::log_tail`] shows.
const TAIL_LINES: usize = 40;

/// The resident memory of a process, in KiB.
///
/// # Errors
/// There is no such process.
pub fn rss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("no VmRSS in {path}"))?
        .parse()
        .context("reading VmRSS")
}

/// A running program, its output going to a log file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; stdout and stderr are appended to the file `log`.
    pub fn spawn(command: &Command, log: &Path) -> Result<Process> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut bound = bind_to_parent(command);
        bound
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("sharing the log file")?)
            .stderr(file)
            // All of this is on loopback; a proxy from the environment would not find it.
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost");
        let child = spawn_from_lasting_thread(bound)
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Process { child, log: log.to_path_buf() })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("asking for an exit status")
    }

    /// Sends SIGTERM and waits for the end; an error if that takes longer than `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(limit).await
    }

    /// Waits for the end without asking for it; an error if that takes longer than `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("process {} still runs after {limit:?}:\n{}", self.pid(), self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a signal by name, such as `HUP`, `STOP` or `CONT`.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        // A child that was waited for has given its pid back: never signal a stranger.
        if let Some(status) = self.try_wait()? {
            bail!("process {} has already ended: {status}", self.pid());
        }
        let status =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().context("running kill")?;
        if !status.success() {
            bail!("kill -s {name} {}: {status}", self.pid());
        }
        Ok(())
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.child.kill().context("killing")?;
        self.child.wait().context("waiting for a killed process")
    }

    /// All it has said so far; nothing where the log is no file, such as a device.
    pub fn log(&self) -> String {
        if !self.log.is_file() {
            return String::new();
        }
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines it has said.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do if it has gone already, and a drop cannot report.
        let _ = self.kill();
    }
}

/// The same command, run through `setpriv` where there is one, which sets the death signal and
/// then becomes the program: the pid is the program's.
fn bind_to_parent(command: &Command) -> Command {
    static SETPRIV: LazyLock<bool> = LazyLock::new(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    let mut bound = if *SETPRIV {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    bound.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// Linux ties the death signal to the thread that started the child, not to its process, and test
/// threads end with their test: a thread that lasts starts them all.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in incoming {
                // The one who ordered may have panicked; the child is then dropped, not waited for.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, answered) = channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .context("the starting thread is gone")?;
    Ok(answered.recv().context("the starting thread is gone")??)
}

/// A port on loopback that is free now and is given to no one else in this test process.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("looking for a free port")?
            .port();
        if given.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port that was not handed out before")
}

//! nginx with one static file: what serving a few headers costs where nothing else is to be done.
//!
//! Owns its configuration: all paths in the folder given, open files cached, no access log, keep-alive
//! without an end. Its master is asked to end (SIGTERM) before it would be killed, because workers of
//! a killed master stay.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use remotemount_tests::process::{Process, free_port};
use remotemount_tests::wire;

use crate::machine;

/// A running nginx; it ends when dropped.
pub struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    /// Serves the files of `folder/html`, `file` among them, and waits until it does.
    pub async fn start(program: &Path, folder: &Path, file: &str, content: &[u8]) -> Result<Nginx> {
        let html = folder.join("html");
        fs::create_dir_all(&html).with_context(|| format!("making {}", html.display()))?;
        fs::write(html.join(file), content).context("writing nginx's file")?;
        let port = free_port()?;
        let settings = folder.join("nginx.conf");
        fs::write(&settings, configuration(folder, port)?).context("writing nginx's configuration")?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(&settings).arg("-e").arg(folder.join("error.log"));
        let mut nginx = Nginx { process: Process::spawn(&command, &folder.join("nginx.log"))?, port };
        nginx.wait_ready(file).await?;
        Ok(nginx)
    }

    /// The URL of a file.
    pub fn url(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.port)
    }

    /// Its workers.
    pub fn workers(&self) -> Result<Vec<u32>> {
        machine::children(self.process.pid())
    }

    async fn wait_ready(&mut self, file: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let (address, target) = (format!("127.0.0.1:{}", self.port), format!("/{file}"));
        loop {
            if wire::raw(&address, "HEAD", &target, &[]).await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            let ended = self.process.try_wait()?.is_some();
            if ended || Instant::now() >= deadline {
                bail!("nginx does not serve:\n{}", self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A drop cannot report; what does not end in time is killed by the process's own drop.
        let _ = self.process.signal("TERM");
        for _ in 0..100 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn configuration(folder: &Path, port: u16) -> Result<String> {
    let at = folder.display();
    // Root's workers would become nobody, who cannot read a temporary folder.
    let root = fs::metadata("/proc/self").context("asking who runs this")?.uid() == 0;
    let user = if root { "user root;" } else { "" };
    Ok(format!(
        "{user}
daemon off;
worker_processes auto;
pid {at}/nginx.pid;
error_log {at}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {at}/html;
    }}
}}
"
    ))
}

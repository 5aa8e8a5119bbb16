//! Named points at which a test stops the process for good, to see what a crash there leaves behind.
//!
//! Compiled in only with the feature `crash-points`, which no build for users has; without it a point is
//! nothing. With it: the file `arm` in `$REMOTEMOUNT_CRASH_DIR` names a point; the thread that comes to
//! it first renames the file to `reached` and never goes on, until the test kills the process.

/// Stops here if a test says so.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    let Some(directory) = std::env::var_os("REMOTEMOUNT_CRASH_DIR").map(std::path::PathBuf::from) else { return };
    let armed = directory.join("arm");
    let here = std::fs::read_to_string(&armed).is_ok_and(|wanted| wanted.trim() == name);
    // Only one thread can rename it.
    if here && std::fs::rename(&armed, directory.join("reached")).is_ok() {
        loop {
            std::thread::park();
        }
    }
}

/// Nothing, in every build for users.
#[cfg(not(feature = "crash-points"))]
pub const fn point(_name: &str) {}

//! The processor time that this process has used.
//!
//! The kernel's own count of nanoseconds on a processor, over all threads that are alive; a
//! thread's share is gone when it ends, so what is compared keeps its threads.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

/// A thread's count is brought up to date when it leaves its processor.
const LEAVE_FOR: Duration = Duration::from_micros(100);

/// Processor time used so far, in user and kernel mode, by all threads.
///
/// # Errors
/// When the kernel does not tell (`/proc` is not there).
pub(super) fn used() -> io::Result<Duration> {
    thread::sleep(LEAVE_FOR);
    let mut total = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread that ends in between has no file any more.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let on_cpu = line.split_ascii_whitespace().next();
        let nanos = on_cpu.and_then(|nanos| nanos.parse::<u64>().ok());
        total += nanos.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    }
    Ok(Duration::from_nanos(total))
}

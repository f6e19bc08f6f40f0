//! What the system knows of this process: `/proc`, where there is one.

use super::page::{Kind, Page};

/// What a tick is, as Linux tells processes: fixed for all that are alive.
const TICKS_PER_SECOND: f64 = 100.0;

/// Puts the process on the page, under the names that every Prometheus client uses. Elsewhere than on Linux, nothing.
pub(crate) fn show(page: &mut Page) {
    if let Some(stat) = read_stat() {
        page.family("process_cpu_seconds", Kind::Counter, "User and system CPU time")
            .add_real(&[], stat.cpu_seconds);
        page.one("process_threads", Kind::Gauge, "Threads", stat.threads);
        if let Some(started) = boot_time_s().map(|boot| boot + stat.started_seconds) {
            page.family("process_start_time_seconds", Kind::Gauge, "When the process started, since 1970")
                .add_real(&[], started);
        }
    }
    if let Some(bytes) = resident_bytes() {
        page.one("process_resident_memory_bytes", Kind::Gauge, "Resident memory", bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        page.one("process_open_fds", Kind::Gauge, "Open files and sockets", files.count() as u64);
    }
}

struct Stat {
    cpu_seconds: f64,
    threads: u64,
    /// After the system was started.
    started_seconds: f64,
}

fn read_stat() -> Option<Stat> {
    parse_stat(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// The fields after the name, which may hold anything but ends at the last bracket: the first of them is the third.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Stat {
        cpu_seconds: (number(14)? + number(15)?) / TICKS_PER_SECOND,
        threads: fields.get(20 - 3)?.parse().ok()?,
        started_seconds: number(22)? / TICKS_PER_SECOND,
    })
}

fn boot_time_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_no_field() {
        let text = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 9 0 1000 0 0";
        let stat = parse_stat(text).expect("it is one");
        assert_eq!((stat.threads, stat.cpu_seconds.to_bits()), (9, 4.0_f64.to_bits()));
        assert_eq!(stat.started_seconds.to_bits(), 10.0_f64.to_bits());
        assert!(parse_stat("").is_none() && parse_stat("1 (a) S").is_none());
    }
}

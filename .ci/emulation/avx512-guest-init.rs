//! The first (and only) process of the emulated machine: it runs the commands
//! listed in /job/commands one after the other, says how each ended and
//! switches the machine off. Everything goes to the serial line.
//!
//! The list is a sequence of NUL-terminated fields, the first byte of a field
//! saying what it is: `n`once (first field), `e`nvironment entry, `p`rogram,
//! `a`rgument, `r`un what was collected since the last `r`.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Instant;

extern "C" {
    fn mount(src: *const i8, dst: *const i8, kind: *const i8, flags: u64, data: *const u8) -> i32;
    fn dup2(old: i32, new: i32) -> i32;
    fn ioperm(from: u64, count: u64, on: i32) -> i32;
    fn tcdrain(fd: i32) -> i32;
}

fn mount_on(kind: &str, place: &str) {
    let _ = fs::create_dir_all(place);
    let kind = CString::new(kind).unwrap();
    let place = CString::new(place).unwrap();
    // A mount that fails shows later, when something is missing.
    unsafe { mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
}

/// Bochs ends when this word arrives at this port.
fn switch_off() -> ! {
    const PORT: u16 = 0x8900;
    unsafe {
        tcdrain(1);
        ioperm(u64::from(PORT), 1, 1);
        for byte in b"Shutdown" {
            std::arch::asm!("out dx, al", in("dx") PORT, in("al") *byte);
        }
    }
    // Not reached under Bochs. The kernel panics when its first process ends.
    std::process::exit(1)
}

fn run_all(nonce: &str, fields: &mut dyn Iterator<Item = &str>) {
    let mut environment: Vec<(&str, &str)> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut number = 0;
    for field in fields {
        let (kind, rest) = field.split_at(1);
        match kind {
            "e" => environment.extend(rest.split_once('=')),
            "p" | "a" => words.push(rest),
            "r" => {
                number += 1;
                let name = words[0].rsplit('/').next().unwrap_or("");
                println!("[{nonce}] start {number} {name} {}", words[1..].join(" "));
                let begin = Instant::now();
                let ended = Command::new(words[0])
                    .args(&words[1..])
                    .envs(environment.iter().copied())
                    .current_dir("/tmp")
                    .status();
                // The usual shell numbering: 128 + the signal that killed it.
                let code = match ended {
                    Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                    Err(error) => {
                        println!("cannot start {name}: {error}");
                        127
                    }
                };
                println!("[{nonce}] exit {number} {code} after {:.1} s of guest time", begin.elapsed().as_secs_f64());
                words.clear();
            }
            _ => println!("unknown field {field:?}"),
        }
    }
}

fn main() {
    mount_on("devtmpfs", "/dev");
    mount_on("proc", "/proc");
    mount_on("sysfs", "/sys");
    // /tmp needs none: the root is memory already, and files may wait there.
    if let Ok(line) = OpenOptions::new().read(true).write(true).open("/dev/ttyS0") {
        for fd in 0..3 {
            unsafe { dup2(line.as_raw_fd(), fd) };
        }
        std::mem::forget(line);
    }
    let list = fs::read_to_string("/job/commands").unwrap_or_default();
    let mut fields = list.split_terminator('\0');
    let nonce = fields.next().map_or("", |field| &field[1..]);
    let features = [
        ("fma", is_x86_feature_detected!("fma")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512cd", is_x86_feature_detected!("avx512cd")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512vbmi", is_x86_feature_detected!("avx512vbmi")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512fp16", is_x86_feature_detected!("avx512fp16")),
    ];
    let up = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let names: Vec<&str> = features.iter().filter(|f| f.1).map(|f| f.0).collect();
    println!("[{nonce}] up {} s, cpu has {}", up.split(' ').next().unwrap_or("?"), names.join(" "));
    run_all(nonce, &mut fields);
    println!("[{nonce}] done");
    switch_off()
}

//! A terminal of 80 columns and 24 lines in which the program runs, and what people see there.

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::server::{Installation, PROGRAM};

/// Far beyond anything that happens on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The program in a terminal. It is killed when this is dropped.
pub struct Screen {
    parser: Arc<Mutex<vt100::Parser>>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Screen {
    /// Starts the program.
    pub fn start(installation: &Installation, arguments: &[&str]) -> Self {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).expect("a terminal");
        let mut command = CommandBuilder::new(PROGRAM);
        command.args(arguments);
        for (name, value) in installation.variables() {
            command.env(name, value);
        }
        command.env("TERM", "xterm-256color");
        command.env("TZ", "UTC");
        let child = pair.slave.spawn_command(command).expect("the program starts");
        drop(pair.slave);
        let parser = Arc::new(Mutex::new(vt100::Parser::default()));
        let (mut output, seen) = (pair.master.try_clone_reader().expect("a reader"), parser.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().process(&bytes[..read]);
            }
        });
        let keys = pair.master.take_writer().expect("a writer");
        Self { parser, keys, child, _master: pair.master }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("keys");
    }

    /// What stands there now.
    pub fn contents(&self) -> String {
        self.parser.lock().unwrap().screen().contents()
    }

    /// Waits until something stands there, and returns all that does.
    pub async fn until(&self, what: &str) -> String {
        self.until_it(what, |contents| contents.contains(what)).await
    }

    /// Waits until what stands there is so.
    pub async fn until_it(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let contents = self.contents();
            if is_so(&contents) {
                return contents;
            }
            assert!(begun.elapsed() < LIMIT, "never seen: {what}; what stands there:\n{contents}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for its end: its exit code, and what stands there then.
    pub async fn end(&mut self) -> (u32, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                // What it has written last may still be on its way.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return (status.exit_code(), self.contents());
            }
            assert!(begun.elapsed() < LIMIT, "it does not end; what stands there:\n{}", self.contents());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it is an ordinary terminal: the screen from before, a cursor that is seen.
    pub fn is_ordinary(&self) -> bool {
        let parser = self.parser.lock().unwrap();
        !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
    }

    /// Number of its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.process_id().expect("a process")).expect("a number")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

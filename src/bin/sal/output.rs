//! Standard output, line by line, whose reader may go away at any time.

use crate::failure::Failure;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    /// Whether the command has more to do than to print: then it goes on when nobody reads any more.
    more_to_do: bool,
    closed: bool,
}

impl Output {
    pub(crate) fn new(more_to_do: bool) -> Self {
        Self { more_to_do, closed: false }
    }

    /// Prints one line, at once.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::Run(format!("standard output: {error}")))
            }
            Err(_) if self.more_to_do => {
                self.closed = true;
                Ok(())
            }
            Err(_) => Err(Failure::Closed),
        }
    }
}

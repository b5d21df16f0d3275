//! Why a command ends early: one line on standard error, and the exit code that goes with it.

use clap::CommandFactory;
use clap::error::ErrorKind;
use sal_kernels::data::DataError;
use sal_kernels::kernels::KernelError;
use sal_kernels::model::ModelError;
use sal_kernels::train::TrainError;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was asked for does not exist: exit code 2.
    Usage(String),
    /// Data, a file, or the run itself: exit code 1.
    Run(String),
    /// Nobody reads standard output any more, as after `| head`: not an error.
    Closed,
}

impl Failure {
    /// Says on standard error what went wrong, in clap's colours if it is a terminal, and gives the exit code.
    pub(crate) fn report(&self) -> u8 {
        let (message, code) = match self {
            Self::Usage(message) => (message, 2),
            Self::Run(message) => (message, 1),
            Self::Closed => return 0,
        };
        let line = message.replace(char::is_control, " "); // a path may hold anything
        let error: clap::Error = clap::Error::raw(ErrorKind::ValueValidation, line + "\n");
        // Without a standard error there is nobody left to tell.
        let _ = error.with_cmd(&crate::Cli::command()).print();
        code
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Run(error.to_string())
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self::Run(error.to_string())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        TrainError::from(error).into()
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let message = error.to_string();
        match error {
            TrainError::Config { .. }
            | TrainError::Model(
                ModelError::Config { .. } | ModelError::Kernel(KernelError::Rule { .. }),
            ) => Self::Usage(message),
            _ => Self::Run(message),
        }
    }
}

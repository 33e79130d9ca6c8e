//! Starting typed jobs.

use std::{marker::PhantomData, ops::Deref};

use longhaul_schema::{Job, calls::InTransaction};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{BulkStarted, Client, Error, RunHandle, Start};

/// A started job: a [`RunHandle`] that knows the type of its output.
#[derive(Clone, Debug)]
pub struct JobHandle<Out> {
    run: RunHandle,
    output: PhantomData<fn() -> Out>,
}

impl<Out: DeserializeOwned> JobHandle<Out> {
    /// Waits until the job is done, and reads its output. Fails when the run failed or was cancelled.
    pub async fn output(&self) -> Result<Out, Error> {
        self.run.output().await
    }
}

impl<Out> Deref for JobHandle<Out> {
    type Target = RunHandle;

    fn deref(&self) -> &RunHandle {
        &self.run
    }
}

impl Client {
    /// Starts a job, and deploys [`Job::flow`] when no flow of that name is there yet.
    ///
    /// ```no_run
    /// # use longhaul_scheduler::Client;
    /// use longhaul_schema::Job;
    ///
    /// const GREET: Job<String, String> = Job::new("greet");
    ///
    /// # async fn run(client: Client) -> Result<(), longhaul_scheduler::Error> {
    /// let greeting: String = client.start_job(GREET, &"world".to_owned()).await?.output().await?;
    /// # Ok(()) }
    /// ```
    pub async fn start_job<In: Serialize, Out>(&self, job: Job<In, Out>, input: &In) -> Result<JobHandle<Out>, Error> {
        self.start_job_with(job, input, |start| start).await
    }

    /// As [`Client::start_job`], with options.
    ///
    /// ```no_run
    /// # use longhaul_scheduler::{Client, Unique};
    /// # use longhaul_schema::Job;
    /// # const CHARGE: Job<u64, String> = Job::new("payment.charge");
    /// # async fn run(client: Client) -> Result<(), longhaul_scheduler::Error> {
    /// client.start_job_with(CHARGE, &7, |start| start.unique("order-7", Unique::Forever).priority(-10)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn start_job_with<In: Serialize, Out>(
        &self,
        job: Job<In, Out>,
        input: &In,
        options: impl FnOnce(Start) -> Start,
    ) -> Result<JobHandle<Out>, Error> {
        let start = options(Start::new(input)?);
        let run = match self.start_with(job.name(), start.clone()).await {
            Err(Error::NotFound(_)) if !start.names_version() => {
                self.deploy(&job.flow()).await?;
                self.start_with(job.name(), start).await?
            }
            outcome => outcome?,
        };
        Ok(JobHandle { run, output: PhantomData })
    }

    /// Starts a job in the caller's own transaction; see [`Client::start_in`]. A flow of that name must be deployed:
    /// `client.deploy(&job.flow())`.
    pub async fn start_job_in<In: Serialize, Out>(
        &self,
        transaction: impl InTransaction,
        job: Job<In, Out>,
        input: &In,
    ) -> Result<Uuid, Error> {
        self.start_in(transaction, job.name(), Start::new(input)?).await
    }

    /// Starts a job for each of these inputs, in one transaction; see [`Client::start_many`].
    pub async fn start_jobs<In: Serialize, Out>(
        &self,
        job: Job<In, Out>,
        inputs: impl IntoIterator<Item = In>,
    ) -> Result<BulkStarted, Error> {
        let starts: Vec<Start> = inputs.into_iter().map(|input| Start::new(&input)).collect::<Result<_, _>>()?;
        match self.start_many(job.name(), starts.iter().cloned()).await {
            Err(Error::NotFound(_)) => {
                self.deploy(&job.flow()).await?;
                self.start_many(job.name(), starts).await
            }
            outcome => outcome,
        }
    }
}

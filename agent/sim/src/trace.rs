// SPDX-License-Identifier: Apache-2.0
//! Recorded requests from CSV: columns `time`, `zone`, `service`, `cost`, in this order, under a header of these names.
//!
//! `time` is in seconds since the start, a plain decimal number, not before that of the row above; `zone` is the client's;
//! `cost` multiplies the service time. Always true: a row is right or names file, line and column; nothing is skipped. Rows
//! at or after the scenario's duration are checked but not kept. Cost: rows are read one at a time into 32 bytes each, and
//! there may be at most 20 million within the duration, so that memory is bounded before the run.
//!
//! A file whose last line has no end is refused: whatever wrote it did not finish, and half a number is a number too.
//! Deliberately not here: other orders of columns, quoting rules beyond CSV's, compression.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use csv::{Reader, ReaderBuilder, StringRecord, Trim};

use crate::{
    model::{Scenario, TraceRequest},
    scenario::time,
};

/// The columns.
const HEADER: [&str; 4] = ["time", "zone", "service", "cost"];

/// How many requests a trace may have.
const MOST: usize = 20_000_000;

/// A trace that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read the trace {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A row is wrong.
    #[error("{}:{line}: {problem}", file.display())]
    Row {
        /// Which file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong, with the column.
        problem: String,
    },
}

/// Reads the trace for a scenario, whose zones, services and clients its rows name.
///
/// # Errors
/// The file cannot be read, or a row is wrong.
pub fn read(path: &Path, scenario: &Scenario) -> Result<Vec<TraceRequest>, TraceError> {
    let unreadable = |source| TraceError::Read { file: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let finished = ends_its_last_line(&mut file).map_err(unreadable)?;
    from_reader(file, finished, path, scenario)
}

fn ends_its_last_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    file.rewind()?;
    Ok(last == *b"\n")
}

fn from_reader(
    source: impl Read,
    finished: bool,
    path: &Path,
    scenario: &Scenario,
) -> Result<Vec<TraceRequest>, TraceError> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(source);
    let (mut rows, mut record, mut last) = (Vec::new(), StringRecord::new(), None::<TraceRequest>);
    let (mut line, mut headed) = (0, false);
    while next(&mut reader, &mut record, path, &mut line)? {
        let row = |problem: String| TraceError::Row { file: path.to_owned(), line, problem };
        if !headed {
            header(&record).map_err(row)?;
            headed = true;
            continue;
        }
        let request = request(&record, scenario).map_err(row)?;
        if last.is_some_and(|before| request.at < before.at) {
            return Err(row(format!("time: {} is before the row above", &record[0])));
        }
        last = Some(request);
        if request.at < scenario.duration {
            if rows.len() == MOST {
                return Err(row(format!("a trace may have at most {MOST} requests")));
            }
            rows.push(request);
        }
    }
    let problem = match (headed, finished) {
        (false, _) => "it is empty: the first line must be `time,zone,service,cost`",
        (_, false) => "the line has no end: the file is truncated",
        _ => return Ok(rows),
    };
    Err(TraceError::Row { file: path.to_owned(), line: line.max(1), problem: problem.to_owned() })
}

/// Whether there is another record; `line` is where it starts.
fn next(
    reader: &mut Reader<impl Read>,
    record: &mut StringRecord,
    path: &Path,
    line: &mut u64,
) -> Result<bool, TraceError> {
    match reader.read_record(record) {
        Ok(more) => {
            *line = record.position().filter(|_| more).map_or(*line, csv::Position::line);
            Ok(more)
        }
        Err(error) => {
            let at = error.position().map_or(*line + 1, csv::Position::line);
            Err(match error.into_kind() {
                csv::ErrorKind::Io(source) => TraceError::Read { file: path.to_owned(), source },
                csv::ErrorKind::Utf8 { err, .. } => TraceError::Row {
                    file: path.to_owned(),
                    line: at,
                    problem: format!("column {}: not UTF-8", err.field() + 1),
                },
                _ => TraceError::Row { file: path.to_owned(), line: at, problem: "not CSV".to_owned() },
            })
        }
    }
}

fn header(record: &StringRecord) -> Result<(), String> {
    if *record == HEADER[..] {
        return Ok(());
    }
    Err(format!("the first line must be `{}`", HEADER.join(",")))
}

fn request(record: &StringRecord, scenario: &Scenario) -> Result<TraceRequest, String> {
    if record.len() != HEADER.len() {
        return Err(format!("{} columns instead of {}", record.len(), HEADER.len()));
    }
    let (time, zone, service, cost) = (&record[0], &record[1], &record[2], &record[3]);
    let at = time::decimal(time, 1_000_000_000).map_err(|why| format!("time: `{time}`: {why}"))?;
    let zone = named(zone, "zone", scenario.zones.iter().map(|z| &*z.name))?;
    let service = named(service, "service", scenario.services.iter().map(|s| &*s.name))?;
    let factor: f64 = cost.parse().map_err(|_| format!("cost: `{cost}` is not a number"))?;
    if !(factor > 0.0 && factor <= 1e6) {
        return Err(format!("cost: must be above 0 and at most 1000000, is {cost}"));
    }
    let sender = |c: &crate::model::Clients| c.service == service && c.zone.is_none_or(|z| z == zone);
    if !scenario.clients.iter().any(sender) {
        return Err(format!(
            "zone: the scenario has no clients of {} in {}",
            scenario.services[service].name, scenario.zones[zone].name
        ));
    }
    Ok(TraceRequest { at, zone, service, cost: factor })
}

fn named<'a>(name: &str, column: &str, mut known: impl Iterator<Item = &'a str>) -> Result<usize, String> {
    known.position(|k| k == name).ok_or_else(|| format!("{column}: there is no {column} `{name}`"))
}

#[cfg(test)]
mod tests;

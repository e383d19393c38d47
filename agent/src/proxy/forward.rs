// SPDX-License-Identifier: Apache-2.0
//! Bodies, trailers and resets of one stream, in both directions.
//!
//! Back-pressure: bytes are taken from the receiving side one frame at a time, and their flow-control credit is given back
//! only as the sending side accepts them. So one stream holds at most its receive window and its send buffer.
//!
//! The upload keeps a copy (of references, not of bytes) of what it has sent while that is little and no response has come,
//! so that a refused stream can be sent again ([`Upload`]).

use std::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::Poll,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use super::pool::STREAM_WINDOW;

/// Most of a request body that is kept for another attempt. Unary gRPC requests are nearly always smaller.
const KEEP: usize = 64 * 1024;
const _: () = assert!(KEEP <= STREAM_WINDOW as usize);

/// Why a body could not be carried to its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The side it comes from failed.
    Source(h2::Error),
    /// The side it goes to takes no more: reset by its peer (with that reason), or its connection is lost.
    Sink(Option<Reason>),
}

/// The next event of a receiving side.
enum Part {
    Data(Bytes),
    End(Option<HeaderMap>),
}

/// The next part of a body; meanwhile watches the side it goes to, which may be reset while the source is silent.
async fn next_part(source: &mut RecvStream, sink: &mut SendStream<Bytes>) -> Result<Part, Broken> {
    let data = poll_fn(|cx| {
        if let Poll::Ready(reset) = sink.poll_reset(cx) {
            return Poll::Ready(Err(Broken::Sink(reset.ok())));
        }
        source.poll_data(cx).map(|data| data.transpose().map_err(Broken::Source))
    })
    .await?;
    match data {
        Some(data) => Ok(Part::Data(data)),
        None => poll_fn(|cx| source.poll_trailers(cx)).await.map(Part::End).map_err(Broken::Source),
    }
}

/// Sends a chunk as the window allows. `accepted` hears of every piece that was taken.
async fn send_chunk(
    sink: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    end: bool,
    mut accepted: impl FnMut(usize),
) -> Result<(), Broken> {
    let gone = |_: h2::Error| Broken::Sink(None);
    if chunk.is_empty() {
        return if end { sink.send_data(chunk, true).map_err(gone) } else { Ok(()) };
    }
    sink.reserve_capacity(chunk.len());
    while !chunk.is_empty() {
        let room = match sink.capacity() {
            0 => poll_fn(|cx| sink.poll_capacity(cx)).await.unwrap_or(Ok(0)).map_err(gone_with)?,
            room => room,
        };
        if room == 0 {
            // Closed for sending: `poll_capacity` would be ready for ever.
            if let Some(reason) = closed(sink).await {
                return Err(Broken::Sink(reason));
            }
            continue;
        }
        let piece = chunk.split_to(room.min(chunk.len()));
        let len = piece.len();
        sink.send_data(piece, end && chunk.is_empty()).map_err(gone)?;
        accepted(len);
    }
    Ok(())
}

fn gone_with(error: h2::Error) -> Broken {
    Broken::Sink(error.reason())
}

/// Whether the sink is closed, without waiting.
async fn closed(sink: &mut SendStream<Bytes>) -> Option<Option<Reason>> {
    poll_fn(|cx| match sink.poll_reset(cx) {
        Poll::Ready(reset) => Poll::Ready(Some(reset.ok())),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Ends a body.
fn send_end(sink: &mut SendStream<Bytes>, trailers: Option<HeaderMap>) -> Result<(), Broken> {
    let sent = match trailers {
        Some(trailers) => sink.send_trailers(trailers),
        None => sink.send_data(Bytes::new(), true),
    };
    sent.map_err(|_| Broken::Sink(None))
}

/// Carries a response body to the client. `trailers` sees the trailers before they are sent.
pub(super) async fn download(
    source: &mut RecvStream,
    sink: &mut SendStream<Bytes>,
    trailers: impl FnOnce(&HeaderMap),
) -> Result<(), Broken> {
    loop {
        match next_part(source, sink).await? {
            Part::Data(data) => {
                let end = source.is_end_stream();
                let credit = source.flow_control();
                // Fails only when the source is closed, where credit is no matter.
                send_chunk(sink, data, end, |n| _ = credit.release_capacity(n)).await?;
                if end {
                    return Ok(());
                }
            }
            Part::End(last) => {
                if let Some(last) = &last {
                    trailers(last);
                }
                return send_end(sink, last);
            }
        }
    }
}

/// A request body on its way up, and what is needed to begin again.
pub(super) struct Upload {
    source: RecvStream,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// The end of the body, once it has been read. The outer is "read", the inner the trailers.
    end: Option<Option<HeaderMap>>,
    /// Bytes were passed on that are not kept.
    lost: bool,
}

impl Upload {
    pub(super) fn new(source: RecvStream) -> Self {
        let end = source.is_end_stream().then_some(None);
        Self { source, kept: Vec::new(), kept_bytes: 0, end, lost: false }
    }

    /// Whether there is no body at all, so that the headers end the request.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.end, Some(None)) && self.kept.is_empty() && !self.lost
    }

    /// Whether the whole body so far can be sent once more.
    pub(super) const fn can_restart(&self) -> bool {
        !self.lost
    }

    /// Carries the body up, from its beginning. Once `answered` is set nothing more is kept.
    pub(super) async fn run(
        &mut self,
        sink: &mut SendStream<Bytes>,
        answered: &AtomicBool,
    ) -> Result<(), Broken> {
        for i in 0..self.kept.len() {
            let end = i + 1 == self.kept.len() && matches!(self.end, Some(None));
            send_chunk(sink, self.kept[i].clone(), end, |_| ()).await?;
            if end {
                return Ok(());
            }
        }
        loop {
            if let Some(trailers) = &self.end {
                return send_end(sink, trailers.clone());
            }
            match next_part(&mut self.source, sink).await? {
                Part::Data(data) => {
                    let end = self.source.is_end_stream();
                    if end {
                        self.end = Some(None);
                    }
                    self.carry(sink, data, end, answered.load(Relaxed)).await?;
                    if end {
                        return Ok(());
                    }
                }
                Part::End(trailers) => self.end = Some(trailers),
            }
        }
    }

    async fn carry(
        &mut self,
        sink: &mut SendStream<Bytes>,
        data: Bytes,
        end: bool,
        answered: bool,
    ) -> Result<(), Broken> {
        if !answered && !self.lost && self.kept_bytes + data.len() <= KEEP {
            self.kept_bytes += data.len();
            self.kept.push(data.clone());
            // What is kept is paid for here: its bound is `KEEP`, and a second attempt must not pay twice.
            _ = self.source.flow_control().release_capacity(data.len());
            return send_chunk(sink, data, end, |_| ()).await;
        }
        self.lost = true;
        self.kept = Vec::new();
        let credit = self.source.flow_control();
        send_chunk(sink, data, end, |n| _ = credit.release_capacity(n)).await
    }
}

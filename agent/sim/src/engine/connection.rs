// SPDX-License-Identifier: Apache-2.0
//! Long-lived connections, where balancing is per connection: opened by a pick, and then followed by requests.
//!
//! Each client holds a fixed number and uses them in turn. Always true: an open connection counts once in what its client's agent
//! knows. A connection closes when its server goes away where the client can see it (a reset), when a request on it was refused
//! or could not be delivered, and after a request when it is too old; the next request on it opens it anew. Deliberately not
//! here: pools that grow with load, and servers that ask their clients to leave (GOAWAY).

use super::{
    World,
    client::End,
    request::{At, COUNTED, NONE, REFUSED, Request},
    server::Server,
};

/// A long-lived connection. `server` is `NONE` while it is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) server: u32,
    /// The server before, to see what moves.
    pub(super) last: u32,
    pub(super) opened: u64,
}

impl World<'_> {
    /// The server of the client's next connection, which is opened if need be.
    pub(super) fn connected(&mut self, slot: u32) -> Option<u32> {
        let index = self.requests.get(slot).client as usize;
        let client = &mut self.clients[index];
        let connection = match self.requests.get(slot).bound {
            NONE => {
                let next = client.connection + client.turn;
                client.turn = (client.turn + 1) % client.connections;
                next
            }
            // It is sent again.
            connection => connection,
        };
        self.requests.get(slot).bound = connection;
        if self.connections[connection as usize].server == NONE {
            let server = self.pick(slot)?;
            self.open(connection, server);
        }
        self.requests.get(slot).flags |= COUNTED;
        Some(self.connections[connection as usize].server)
    }

    /// Notes that a connection goes to a server now.
    fn open(&mut self, connection: u32, server: u32) {
        let connection = &mut self.connections[connection as usize];
        if connection.last != NONE && connection.last != server {
            self.record.figures.remapped += u64::from(self.now >= self.measured_from);
        }
        *connection = Connection { server, last: server, opened: self.now };
    }

    /// Opens every connection of every client, each client one after the other in turn.
    pub(super) fn open_all(&mut self) {
        let most = self.clients.iter().map(|c| c.connections).max().unwrap_or(0);
        for turn in 0..most {
            for index in 0..self.clients.len() {
                let client = self.clients[index];
                if turn < client.connections
                    && let Some(server) = self.pick_for(client.table, index as u32, NONE, &[])
                {
                    self.open(client.connection + turn, server);
                }
            }
        }
    }

    /// Closes the connection of a request that has ended, if it is too old or broken.
    pub(super) fn after_request(&mut self, request: &Request, end: End) {
        let connection = self.connections[request.bound as usize];
        // It may have been closed, and opened elsewhere, while the request was under way.
        if connection.server != request.server {
            return;
        }
        let age = self.ages[request.client as usize];
        let broken = end != End::Completed && (request.is(REFUSED) || request.at == At::Hung);
        if broken || age.is_some_and(|age| self.now - connection.opened >= age) {
            if broken {
                self.record.figures.reopened += u64::from(self.now >= self.measured_from);
            }
            self.close(request.client, request.bound);
        }
    }

    fn close(&mut self, client: u32, connection: u32) {
        let server = std::mem::replace(&mut self.connections[connection as usize].server, NONE);
        let table = self.clients[client as usize].table as usize;
        let known = self.tables[table].known as usize;
        self.known[known].closed(self.servers[server as usize].local);
    }

    /// Closes all connections to servers that are gone: their clients see a reset.
    pub(super) fn reset_connections(&mut self, gone: impl Fn(&Server) -> bool) {
        for index in 0..self.clients.len() {
            let client = self.clients[index];
            for connection in client.connection..client.connection + client.connections {
                let server = self.connections.get(connection as usize).map_or(NONE, |c| c.server);
                if server != NONE && gone(&self.servers[server as usize]) {
                    self.record.figures.reopened += u64::from(self.now >= self.measured_from);
                    self.close(index as u32, connection);
                }
            }
        }
    }
}

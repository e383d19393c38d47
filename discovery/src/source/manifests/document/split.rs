// SPDX-License-Identifier: Apache-2.0
//! A YAML stream cut into documents, so that each has a number and a line, and a broken one does not hide the others.
//!
//! A line that starts with `---` is a document marker wherever it stands: YAML forbids such lines inside scalars
//! (YAML 1.2.2, production `c-forbidden`). Directives (`%YAML`) are dropped.

/// One document of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// Counts from 1; pieces without content do not count.
    pub(super) number: usize,
    /// Line in the file at which `text` begins, from 1.
    pub(super) line: u64,
    /// The document, with its marker.
    pub(super) text: &'a str,
}

/// All documents that have content.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    let mut push = |start: usize, end: usize, line: u64| {
        let text = &text[start..end];
        if has_content(text) {
            documents.push(Document { number: documents.len() + 1, line, text });
        }
    };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > start {
            push(start, offset, start_line);
            (start, start_line) = (offset, index as u64 + 1);
        }
        offset += line.len();
    }
    push(start, offset, start_line);
    documents
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = if is_marker(line) { &line[3..] } else { line };
        let line = line.trim();
        !(line.is_empty() || line.starts_with(['#', '%']) || line == "...")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_numbers_and_lines() {
        let found = split("# head\n---\na: 1\n---\n# nothing\n--- # note\nb: |\n  ---\n  text\n");
        let places: Vec<_> = found.iter().map(|document| (document.number, document.line)).collect();
        assert_eq!(places, [(1, 2), (2, 6)]);
        assert!(found[1].text.ends_with("  text\n"));
    }

    #[test]
    fn nothing_but_comments_is_no_document() {
        assert_eq!(split(""), []);
        assert_eq!(split("# a\n---\n%YAML 1.2\n...\n"), []);
    }
}

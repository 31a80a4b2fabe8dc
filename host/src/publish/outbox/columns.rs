//! Checks the columns of an outbox table. Pure.
//!
//! A table is refused as a whole when a column is missing or of a type that
//! cannot be read: none of it is relayed, and nothing is lost. A nullable
//! column that a message needs is only a warning: a row without the value is
//! kept as undelivered.

use super::error::SourceError;

/// The database of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// What `courier outbox schema --for` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// A column as the database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// Its type; of a domain, the type below it.
    pub type_name: String,
    /// The category of its type in PostgreSQL (`S` for text, `E` for an enum).
    pub category: char,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// How the values of a column are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// As their text.
    #[default]
    Text,
    /// As the bytes that they are.
    Bytes,
}

/// The properties of a table that the reader needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub key: Format,
    pub body: Format,
    /// Whether there is a column `source`, which older tables lack.
    pub has_source: bool,
    /// Whether there may be rows without a number, which have no place in the
    /// order of sending.
    pub seq_nullable: bool,
}

/// What a column holds, which decides the types that it may have.
#[derive(Clone, Copy)]
enum Holds {
    Number,
    Id,
    Name,
    Bytes,
    Headers,
    Time,
}

struct Rule {
    name: &'static str,
    holds: Holds,
    /// Whether a message needs a value there.
    needed: bool,
}

const fn rule(name: &'static str, holds: Holds, needed: bool) -> Rule {
    Rule { name, holds, needed }
}

/// The only column that may be missing: older tables lack it.
const SOURCE: &str = "source";

const RULES: [Rule; 11] = [
    rule("seq", Holds::Number, true),
    rule("id", Holds::Id, true),
    rule(SOURCE, Holds::Name, false),
    rule("topic", Holds::Name, true),
    rule("type", Holds::Name, true),
    rule("key", Holds::Bytes, false),
    rule("kind", Holds::Name, false),
    rule("body", Holds::Bytes, true),
    rule("headers", Holds::Headers, false),
    rule("deliver_at", Holds::Time, false),
    rule("created_at", Holds::Time, false),
];

const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];

impl Holds {
    fn takes(self, column: &Column, dialect: Dialect) -> bool {
        let type_name = column.type_name.to_lowercase();
        if dialect == Dialect::Sqlite {
            // SQLite keeps any value in any column; what a column is declared
            // as says what its values are converted to.
            let has = |words: &[&str]| words.iter().any(|word| type_name.contains(word));
            return match self {
                Self::Number => has(&["int"]),
                Self::Time => !has(&["int", "real", "floa", "doub", "blob"]),
                Self::Id | Self::Name | Self::Bytes | Self::Headers => true,
            };
        }
        let text = matches!(column.category, 'S' | 'E');
        match self {
            Self::Number => INTEGERS.contains(&type_name.as_str()),
            Self::Id => text || type_name == "uuid" || INTEGERS.contains(&type_name.as_str()),
            Self::Name => text,
            Self::Bytes => true,
            Self::Headers => column.category == 'S' || matches!(type_name.as_str(), "json" | "jsonb"),
            Self::Time => column.category == 'D' && (type_name.starts_with("timestamp") || type_name == "date"),
        }
    }

    /// The types that it may have, for people.
    fn types(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Number, Dialect::Postgres) => "bigint or integer",
            (Self::Number, Dialect::Sqlite) => "INTEGER",
            (Self::Id, _) => "text, varchar, uuid, bigint or integer",
            (Self::Name, _) => "text or varchar",
            (Self::Bytes, _) => "text or bytea",
            (Self::Headers, _) => "jsonb, json or text",
            (Self::Time, Dialect::Postgres) => "timestamptz or timestamp",
            (Self::Time, Dialect::Sqlite) => "TEXT with times as RFC 3339",
        }
    }
}

/// Checks the columns of a table. Returns how it is read, and warnings.
///
/// # Errors
/// Names each column that is missing or of a wrong type, and what is right.
pub(super) fn judge(table: &str, found: &[Column], dialect: Dialect) -> Result<(Layout, Vec<String>), SourceError> {
    let (mut missing, mut wrong, mut at_fault, mut warnings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut layout = Layout::default();
    for Rule { name, holds, needed } in &RULES {
        let Some(column) = found.iter().find(|column| column.name == *name) else {
            if *name != SOURCE {
                missing.push(*name);
                at_fault.push(*name);
            }
            continue;
        };
        if !holds.takes(column, dialect) {
            wrong.push(format!("column {name} is {}, and has to be {}", column.type_name, holds.types(dialect)));
            at_fault.push(*name);
        }
        if column.nullable && *needed {
            warnings.push(may_be_null(table, name, dialect));
        }
        let bytes = dialect == Dialect::Postgres && column.type_name == "bytea";
        let format = if bytes { Format::Bytes } else { Format::Text };
        match *name {
            "seq" => layout.seq_nullable = column.nullable,
            SOURCE => layout.has_source = true,
            "key" => layout.key = format,
            "body" => layout.body = format,
            _ => {}
        }
    }
    if at_fault.is_empty() {
        return Ok((layout, warnings));
    }
    if !missing.is_empty() {
        wrong.insert(0, format!("it has no column {}", missing.join(", ")));
    }
    let sentence = format!(
        "the table {table} is not as it has to be: {}: `courier outbox schema --for {}` prints how it has to be",
        wrong.join("; "),
        dialect.name()
    );
    Err(SourceError::new("outbox_column", sentence).with("table", table).with("columns", at_fault.join(", ")))
}

fn may_be_null(table: &str, name: &str, dialect: Dialect) -> String {
    let effect = match name {
        "seq" => "a row without a number has no place in the order of sending, and stays where it is",
        _ => "a row without a value there is kept as undelivered",
    };
    let remedy = match dialect {
        Dialect::Postgres => format!("ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL"),
        Dialect::Sqlite => format!("declare it as {name} .. NOT NULL"),
    };
    format!("column {name} may be NULL: {effect}; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_name: &str, category: char) -> Column {
        Column { name: name.to_owned(), type_name: type_name.to_owned(), category, nullable: false }
    }

    fn table() -> Vec<Column> {
        vec![
            column("seq", "bigint", 'N'),
            column("id", "text", 'S'),
            column("topic", "text", 'S'),
            column("type", "text", 'S'),
            column("key", "text", 'S'),
            column("kind", "text", 'S'),
            column("body", "text", 'S'),
            column("headers", "jsonb", 'U'),
            column("deliver_at", "timestamp with time zone", 'D'),
            column("created_at", "timestamp with time zone", 'D'),
        ]
    }

    fn with(other: Column) -> Vec<Column> {
        let mut table = table();
        table.retain(|column| column.name != other.name);
        table.push(other);
        table
    }

    #[test]
    fn a_missing_column_is_named_with_what_helps() {
        let columns = ["seq", "deliver_at", "created_at"];
        let left: Vec<Column> = table().into_iter().filter(|one| !columns.contains(&one.name.as_str())).collect();
        let error = judge("t", &left, Dialect::Sqlite).unwrap_err();
        assert!(error.sentence.contains("no column seq, deliver_at, created_at"), "{error}");
        assert!(error.sentence.contains("--for sqlite"), "{error}");
        assert_eq!(error.code, "outbox_column");
        assert_eq!(error.fields[1], ("columns", "seq, deliver_at, created_at".to_owned()));
        assert_eq!(judge("t", &table(), Dialect::Postgres), Ok((Layout::default(), Vec::new())));
    }

    #[test]
    fn a_column_of_a_wrong_type_is_named_with_the_types_that_are_right() {
        for (wrong, said) in [
            (column("id", "bytea", 'U'), "column id is bytea, and has to be text, varchar, uuid, bigint or integer"),
            (column("seq", "uuid", 'U'), "column seq is uuid, and has to be bigint or integer"),
            (column("topic", "integer", 'N'), "column topic is integer, and has to be text or varchar"),
            (column("headers", "bytea", 'U'), "column headers is bytea, and has to be jsonb, json or text"),
            (column("created_at", "bigint", 'N'), "column created_at is bigint, and has to be timestamptz"),
        ] {
            let error = judge("t", &with(wrong), Dialect::Postgres).unwrap_err();
            assert!(error.sentence.contains(said), "{error}");
        }
        let epoch = with(column("created_at", "INTEGER", '-'));
        let error = judge("t", &epoch, Dialect::Sqlite).unwrap_err();
        assert!(error.sentence.contains("created_at is INTEGER, and has to be TEXT"), "{error}");
    }

    #[test]
    fn ids_keys_and_bodies_may_have_other_types_and_a_source_may_be_there() {
        for (other, layout) in [
            (column("id", "uuid", 'U'), Layout::default()),
            (column("id", "bigint", 'N'), Layout::default()),
            (column("kind", "shop_kind", 'E'), Layout::default()),
            (column("key", "bytea", 'U'), Layout { key: Format::Bytes, ..Layout::default() }),
            (column("body", "bytea", 'U'), Layout { body: Format::Bytes, ..Layout::default() }),
            (column("source", "text", 'S'), Layout { has_source: true, ..Layout::default() }),
        ] {
            assert_eq!(judge("t", &with(other), Dialect::Postgres), Ok((layout, Vec::new())));
        }
    }

    #[test]
    fn a_column_that_may_be_null_is_warned_of_where_a_value_is_needed() {
        let nullable =
            |name: &str, type_name: &str, category| Column { nullable: true, ..column(name, type_name, category) };
        let (_, warnings) = judge("t", &with(nullable("topic", "text", 'S')), Dialect::Postgres).unwrap();
        assert!(
            warnings[0].contains("column topic may be NULL") && warnings[0].contains("SET NOT NULL"),
            "{warnings:?}"
        );
        let (layout, warnings) = judge("t", &with(nullable("seq", "bigint", 'N')), Dialect::Postgres).unwrap();
        assert!(layout.seq_nullable && warnings[0].contains("order of sending"), "{warnings:?}");
        let (_, warnings) = judge("t", &with(nullable("headers", "jsonb", 'U')), Dialect::Postgres).unwrap();
        assert!(warnings.is_empty(), "no headers are no fault: {warnings:?}");
    }
}

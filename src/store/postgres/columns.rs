//! Many rows in one statement, column by column (UNNEST). A value that all the rows share is sent once.
//!
//! The server unpacks an array for each column and keeps what it unpacked. Of the 39 columns of a transaction most hold
//! the same in all rows of a commit, or nothing: those cost it nothing this way.

use std::fmt::Write;

use tokio_postgres::types::ToSql;

use super::load::Call;
use super::session::Parameter;

/// One column of the rows of a statement.
pub(super) struct Column<'a> {
    name: &'static str,
    kind: &'static str,
    value: Value<'a>,
    /// A row that has nothing here keeps what is there.
    keeps: bool,
}

enum Value<'a> {
    Each(Parameter<'a>),
    Shared(Parameter<'a>),
}

impl<'a> Column<'a> {
    /// What tells the rows apart.
    pub(super) fn key<T>(name: &'static str, kind: &'static str, values: Vec<T>) -> Self
    where
        T: ToSql + Sync + Send + 'a,
    {
        Self { name, kind, value: Value::Each(Box::new(values)), keeps: false }
    }

    pub(super) fn of<T>(name: &'static str, kind: &'static str, mut values: Vec<T>) -> Self
    where
        T: ToSql + PartialEq + Sync + Send + 'a,
    {
        let is_shared = values.iter().all(|value| *value == values[0]);
        let value = match if is_shared { values.pop() } else { None } {
            Some(shared) => Value::Shared(Box::new(shared)),
            None => Value::Each(Box::new(values)),
        };
        Self { name, kind, value, keeps: false }
    }

    pub(super) fn kept_where_null(self) -> Self {
        Self { keeps: true, ..self }
    }
}

/// Inserts the rows. The first column is a key.
pub(super) fn insert<'a>(table: &str, columns: Vec<Column<'a>>) -> Call<'a> {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let sources = Sources::of(&columns);
    let sql = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {}",
        names.join(", "),
        sources.values.join(", "),
        sources.rows()
    );
    call(sql, columns)
}

/// Updates the rows that have the values of the first `keys` columns, the first of which is a key.
pub(super) fn update<'a>(table: &str, keys: usize, columns: Vec<Column<'a>>) -> Call<'a> {
    let sources = Sources::of(&columns);
    let mut set = vec![];
    let mut found = vec![];
    for (place, (column, value)) in columns.iter().zip(&sources.values).enumerate() {
        let Column { name, keeps, .. } = column;
        if place < keys {
            found.push(format!("t.{name} = {value}"));
        } else if *keeps {
            set.push(format!("{name} = coalesce({value}, t.{name})"));
        } else {
            set.push(format!("{name} = {value}"));
        }
    }
    let rows = sources.rows();
    let sql = format!("UPDATE {table} t SET {} FROM {rows} WHERE {}", set.join(", "), found.join(" AND "));
    call(sql, columns)
}

/// Where a statement's values come from, in the order of its columns.
struct Sources {
    values: Vec<String>,
    arrays: String,
    names: String,
}

impl Sources {
    fn of(columns: &[Column<'_>]) -> Self {
        let (mut values, mut arrays, mut names) = (vec![], String::new(), String::new());
        for (number, column) in (1..).zip(columns) {
            let Column { name, kind, .. } = column;
            match column.value {
                Value::Each(_) => {
                    let comma = if arrays.is_empty() { "" } else { ", " };
                    // Writing into a String does not fail.
                    let _ = write!(arrays, "{comma}${number}::{kind}[]");
                    let _ = write!(names, "{comma}{name}");
                    values.push(format!("v.{name}"));
                }
                Value::Shared(_) => values.push(format!("${number}::{kind}")),
            }
        }
        Self { values, arrays, names }
    }

    fn rows(&self) -> String {
        format!("unnest({}) AS v ({})", self.arrays, self.names)
    }
}

fn call(sql: String, columns: Vec<Column<'_>>) -> Call<'_> {
    let parameter = |column| match column {
        Column { value: Value::Each(parameter) | Value::Shared(parameter), .. } => parameter,
    };
    Call { sql: sql.into(), parameters: columns.into_iter().map(parameter).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_rows_share_is_no_array() {
        let columns = || {
            vec![
                Column::key("id", "bigint", vec![1_i64, 2]),
                Column::of("day", "integer", vec![5_i32, 5]),
                Column::of("name", "text", vec!["a", "b"]),
                Column::of("leaf", "bigint", vec![None::<i64>, None]).kept_where_null(),
            ]
        };
        let inserted = insert("rows", columns());
        assert_eq!(
            inserted.sql,
            "INSERT INTO rows (id, day, name, leaf) SELECT v.id, $2::integer, v.name, $4::bigint \
             FROM unnest($1::bigint[], $3::text[]) AS v (id, name)"
        );
        assert_eq!(inserted.parameters.len(), 4);
        assert_eq!(
            update("rows", 2, columns()).sql,
            "UPDATE rows t SET name = v.name, leaf = coalesce($4::bigint, t.leaf) \
             FROM unnest($1::bigint[], $3::text[]) AS v (id, name) WHERE t.id = v.id AND t.day = $2::integer"
        );
    }

    #[test]
    fn one_row_shares_everything_but_its_key() {
        let columns = vec![Column::key("id", "bigint", vec![1_i64]), Column::of("name", "text", vec!["a"])];
        assert_eq!(
            insert("rows", columns).sql,
            "INSERT INTO rows (id, name) SELECT v.id, $2::text FROM unnest($1::bigint[]) AS v (id)"
        );
    }
}

import json
import psycopg

said = {}
with psycopg.connect("", autocommit=True) as db:
    said["read"] = db.execute("SELECT count(*) FROM customers").fetchone()[0]
    try:
        db.execute("DROP TABLE customers")
        said["refused"] = "not refused"
    except psycopg.Error as error:
        said["refused"] = f"{error.sqlstate} {error}"
    said["prepared"] = db.execute("SELECT name FROM customers WHERE id = %s", (2,), prepare=True).fetchone()[0]
    said["binary"] = db.cursor(binary=True).execute("SELECT id FROM customers ORDER BY id").fetchall() and True
    try:
        with db.transaction():
            db.execute("INSERT INTO orders (customer, total) VALUES (%s, %s)", (1, 5))
            said["inside"] = db.execute("SELECT count(*) FROM orders").fetchone()[0]
            raise RuntimeError("enough")
    except RuntimeError:
        pass
    said["after"] = db.execute("SELECT count(*) FROM orders").fetchone()[0]
    with db.pipeline():
        said["pipeline"] = [db.execute("SELECT %s::int", (i,)).fetchone()[0] for i in range(3)] == [0, 1, 2]
    with db.cursor().copy("COPY customers (id) TO STDOUT") as copy:
        said["copy"] = len(list(copy.rows())) == 2
print(json.dumps(said))

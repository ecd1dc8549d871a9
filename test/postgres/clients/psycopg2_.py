import json
import psycopg2

said = {}
db = psycopg2.connect("")
db.autocommit = True
cursor = db.cursor()
cursor.execute("SELECT count(*) FROM customers")
said["read"] = cursor.fetchone()[0]
try:
    cursor.execute("DROP TABLE customers")
    said["refused"] = "not refused"
except psycopg2.Error as error:
    said["refused"] = f"{error.pgcode} {error}"
cursor.execute("SELECT name FROM customers WHERE id = %s", (2,))
said["prepared"] = cursor.fetchone()[0]
db.autocommit = False
cursor.execute("INSERT INTO orders (customer, total) VALUES (%s, %s)", (1, 5))
cursor.execute("SELECT count(*) FROM orders")
said["inside"] = cursor.fetchone()[0]
db.rollback()
with db.cursor(name="by_cursor") as some:
    some.execute("SELECT id FROM customers ORDER BY id")
    said["cursor"] = len(some.fetchall()) == 2
db.rollback()
cursor.execute("SELECT count(*) FROM orders")
said["after"] = cursor.fetchone()[0]
db.close()
print(json.dumps(said))

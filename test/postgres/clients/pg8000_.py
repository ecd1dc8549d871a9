import json
import os
import ssl
import pg8000.native

env = os.environ
where = {"unix_sock": f"{env['PGHOST']}/.s.PGSQL.{env['PGPORT']}"} if env["PGHOST"].startswith("/") else {"host": env["PGHOST"], "port": int(env["PGPORT"])}
context = None
if env["PGSSLMODE"] != "disable":
    context = ssl.create_default_context(cafile=env["PGSSLROOTCERT"])
    context.load_cert_chain(env["PGSSLCERT"], env["PGSSLKEY"])
    where["host"] = "localhost"
said = {}
db = pg8000.native.Connection(env["PGUSER"], database=env["PGDATABASE"], password=env.get("PGPASSWORD"), ssl_context=context, **where)
said["read"] = db.run("SELECT count(*) FROM customers")[0][0]
try:
    db.run("DROP TABLE customers")
    said["refused"] = "not refused"
except pg8000.native.DatabaseError as error:
    said["refused"] = f"{error.args[0]['C']} {error.args[0]['M']}"
statement = db.prepare("SELECT name FROM customers WHERE id = :id")
said["prepared"] = statement.run(id=2)[0][0]
statement.close()
db.run("START TRANSACTION")
db.run("INSERT INTO orders (customer, total) VALUES (:customer, :total)", customer=1, total=5)
said["inside"] = db.run("SELECT count(*) FROM orders")[0][0]
db.run("ROLLBACK")
said["after"] = db.run("SELECT count(*) FROM orders")[0][0]
db.close()
print(json.dumps(said))

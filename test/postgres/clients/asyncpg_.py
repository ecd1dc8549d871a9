import asyncio
import json
import os
import ssl
import asyncpg


async def main():
    env = os.environ
    context = False
    if env["PGSSLMODE"] != "disable":
        context = ssl.create_default_context(cafile=env["PGSSLROOTCERT"])
        context.load_cert_chain(env["PGSSLCERT"], env["PGSSLKEY"])
    host = env["PGHOST"] if context is False else "localhost"
    db = await asyncpg.connect(host=host, port=int(env["PGPORT"]), user=env["PGUSER"], database=env["PGDATABASE"], password=env.get("PGPASSWORD"), ssl=context)
    said = {"read": await db.fetchval("SELECT count(*) FROM customers")}
    try:
        await db.execute("DROP TABLE customers")
        said["refused"] = "not refused"
    except asyncpg.PostgresError as error:
        said["refused"] = f"{error.sqlstate} {error}"
    said["prepared"] = await db.fetchval("SELECT name FROM customers WHERE id = $1", 2)
    said["types"] = await db.fetchval("SELECT ARRAY[ROW(1, 'x')]::text") is not None
    inside = db.transaction()
    await inside.start()
    await db.execute("INSERT INTO orders (customer, total) VALUES ($1, $2)", 1, 5)
    said["inside"] = await db.fetchval("SELECT count(*) FROM orders")
    await inside.rollback()
    said["after"] = await db.fetchval("SELECT count(*) FROM orders")
    await db.close()

    # Between two users of a connection the pool sends its own reset: RESET ALL, CLOSE ALL, UNLISTEN *.
    where = {"user": env["PGUSER"], "database": env["PGDATABASE"], "password": env.get("PGPASSWORD"), "ssl": context}
    async with asyncpg.create_pool(host=host, port=int(env["PGPORT"]), min_size=1, max_size=1, **where) as pool:
        said["pool"] = [await pool.fetchval("SELECT count(*) FROM orders") for _ in range(3)] == [2, 2, 2]
    print(json.dumps(said))


asyncio.run(main())

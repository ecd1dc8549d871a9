import json
import sqlalchemy as sa

said = {}
engine = sa.create_engine("postgresql+psycopg://", pool_pre_ping=True)
with engine.connect() as db:
    said["read"] = db.execute(sa.text("SELECT count(*) FROM customers")).scalar_one()
    db.rollback()
    try:
        db.execute(sa.text("DROP TABLE customers"))
        said["refused"] = "not refused"
    except sa.exc.DBAPIError as error:
        said["refused"] = f"{error.orig.sqlstate} {error.orig}"
    db.rollback()
    said["prepared"] = db.execute(sa.text("SELECT name FROM customers WHERE id = :id"), {"id": 2}).scalar_one()
    db.execute(sa.text("INSERT INTO orders (customer, total) VALUES (:customer, :total)"), {"customer": 1, "total": 5})
    said["inside"] = db.execute(sa.text("SELECT count(*) FROM orders")).scalar_one()
    db.rollback()
    said["after"] = db.execute(sa.text("SELECT count(*) FROM orders")).scalar_one()
    db.rollback()
inspector = sa.inspect(engine)
meta = sa.MetaData()
meta.reflect(engine)
said["reflected"] = sorted(meta.tables) == ["customers", "orders"] and len(meta.tables["orders"].foreign_keys) == 1
said["names"] = "public" in inspector.get_schema_names() and inspector.get_view_names() is not None and inspector.get_indexes("orders") is not None
print(json.dumps(said))

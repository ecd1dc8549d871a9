set -e
one() { psql -XAtc "$1"; }
read=$(one 'SELECT count(*) FROM customers')
refused=$(psql -X -v VERBOSITY=verbose -c 'DROP TABLE customers' 2>&1 | head -1 | sed 's/^ERROR:  //; s/"//g')
prepared=$(psql -XAtq -c "PREPARE by_id (int) AS SELECT name FROM customers WHERE id = \$1" -c 'EXECUTE by_id (2)')
inside=$(psql -XAtq -c BEGIN -c 'INSERT INTO orders (customer, total) VALUES (1, 5)' -c 'SELECT count(*) FROM orders' -c ROLLBACK)
after=$(one 'SELECT count(*) FROM orders')
# What people type first, with nothing on standard error. (`\l` of a psql that is older than the server fails without Chaperone too.)
told=$(psql -X -c '\d' -c '\d+ orders' -c '\dt+' -c '\dn+' -c '\df' -c '\du' -c '\dp' -c '\dx' -c '\dv' -c '\di+' -c '\conninfo' 2>&1 >/dev/null | grep -v '^Did not find' || true)
test -z "$told" && described=true || { printf '%s\n' "$told" >&2; exit 1; }
printf '{"read":%s,"refused":"%s","prepared":"%s","inside":%s,"after":%s,"described":%s}\n' "$read" "$refused" "$prepared" "$inside" "$after" "$described"

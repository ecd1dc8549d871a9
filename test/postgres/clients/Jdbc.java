import java.sql.*;
import java.util.Properties;

/** pgJDBC as DBeaver uses it: a connection, its metadata, a read, a refusal, prepared statements past the server-side threshold. */
class Jdbc {
  static String env(String name) {
    return System.getenv(name);
  }

  static int number(Connection db, String sql) throws SQLException {
    try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      rows.next();
      return rows.getInt(1);
    }
  }

  static int count(ResultSet rows) throws SQLException {
    int n = 0;
    while (rows.next()) n++;
    rows.close();
    return n;
  }

  public static void main(String[] words) throws Exception {
    Properties with = new Properties();
    with.setProperty("user", env("PGUSER"));
    boolean secure = !env("PGSSLMODE").equals("disable");
    if (env("PGPASSWORD") != null) with.setProperty("password", env("PGPASSWORD"));
    with.setProperty("sslmode", secure ? "verify-full" : "disable");
    with.setProperty("ApplicationName", "DBeaver 24.0.0 - Main");
    if (secure) {
      with.setProperty("sslrootcert", env("PGSSLROOTCERT"));
      with.setProperty("sslcert", env("PGSSLCERT"));
      with.setProperty("sslkey", env("PGSSLKEY") + ".pk8");
    }
    String host = secure ? "localhost" : env("PGHOST");
    String database = java.net.URLEncoder.encode(env("PGDATABASE"), "UTF-8");
    try (Connection db = DriverManager.getConnection("jdbc:postgresql://" + host + ":" + env("PGPORT") + "/" + database, with)) {
      int read = number(db, "SELECT count(*) FROM customers");
      String refused = "not refused";
      try (Statement statement = db.createStatement()) {
        statement.execute("DROP TABLE customers");
      } catch (SQLException error) {
        refused = error.getSQLState() + " " + error.getMessage();
      }
      String prepared = "";
      try (PreparedStatement statement = db.prepareStatement("SELECT name FROM customers WHERE id = ?")) {
        for (int i = 0; i < 8; i++) {
          statement.setInt(1, 2);
          ResultSet rows = statement.executeQuery();
          rows.next();
          prepared = rows.getString(1);
          rows.close();
        }
      }
      db.setAutoCommit(false);
      try (PreparedStatement statement = db.prepareStatement("INSERT INTO orders (customer, total) VALUES (?, ?)")) {
        statement.setInt(1, 1);
        statement.setBigDecimal(2, new java.math.BigDecimal(5));
        statement.addBatch();
        statement.executeBatch();
      }
      int inside = number(db, "SELECT count(*) FROM orders");
      db.rollback();
      int after = number(db, "SELECT count(*) FROM orders");
      db.commit();
      db.setAutoCommit(true);
      db.setReadOnly(true);
      db.isValid(5);
      db.getSchema();
      db.getTransactionIsolation();
      DatabaseMetaData about = db.getMetaData();
      boolean metadata = count(about.getTables(null, "public", "%", null)) >= 2 && count(about.getColumns(null, "public", "orders", "%")) == 3
        && count(about.getPrimaryKeys(null, "public", "orders")) == 1 && count(about.getImportedKeys(null, "public", "orders")) == 1
        && count(about.getSchemas()) > 0 && count(about.getIndexInfo(null, "public", "orders", false, false)) == 1 && count(about.getCatalogs()) > 0
        && count(about.getProcedures(null, "public", "%")) >= 0 && count(about.getFunctions(null, "public", "%")) >= 0 && count(about.getTypeInfo()) > 0
        && count(about.getTablePrivileges(null, "public", "%")) > 0;
      System.out.println("{\"read\":" + read + ",\"refused\":\"" + refused.split("\n")[0].replace("\"", "'") + "\",\"prepared\":\"" + prepared + "\",\"inside\":" + inside
        + ",\"after\":" + after + ",\"metadata\":" + metadata + "}");
    }
  }
}

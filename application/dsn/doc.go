package dsn

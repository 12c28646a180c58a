-- A directory as version 9 left it. It must open for ever; do not change it.
CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, disabled INTEGER NOT NULL, created INTEGER NOT NULL, salt BLOB NOT NULL,
	iterations INTEGER NOT NULL, stored_key BLOB NOT NULL, server_key BLOB NOT NULL, cram BLOB);
CREATE TABLE address (id INTEGER PRIMARY KEY, local TEXT NOT NULL, domain TEXT NOT NULL,
	account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE, UNIQUE (local, domain));
CREATE INDEX address_account ON address (account);
CREATE TABLE alias (local TEXT NOT NULL, domain TEXT NOT NULL, target_local TEXT NOT NULL, target_domain TEXT NOT NULL,
	PRIMARY KEY (local, domain, target_local, target_domain));
CREATE TABLE domain (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE certificate (fingerprint TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE);
CREATE INDEX certificate_account ON certificate (account);
CREATE TABLE customer (account TEXT PRIMARY KEY REFERENCES account (name), min_interval INTEGER NOT NULL, empty_turns INTEGER NOT NULL,
	last_contact INTEGER NOT NULL, linger INTEGER NOT NULL DEFAULT 0, long_poll INTEGER NOT NULL DEFAULT 0,
	keep_large INTEGER NOT NULL DEFAULT 0, host TEXT NOT NULL DEFAULT '', budget INTEGER NOT NULL DEFAULT 0,
	largest INTEGER NOT NULL DEFAULT 0);
CREATE TABLE customer_domain (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
	account TEXT NOT NULL REFERENCES customer (account) ON DELETE CASCADE);
CREATE INDEX customer_domain_account ON customer_domain (account);
CREATE TABLE permission (account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE, kind TEXT NOT NULL, pattern TEXT NOT NULL,
	PRIMARY KEY (account, kind, pattern));
CREATE TABLE allowance (account TEXT PRIMARY KEY REFERENCES account (name) ON DELETE CASCADE, messages INTEGER NOT NULL,
	recipients INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE app_password (account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE, name TEXT NOT NULL, created INTEGER NOT NULL,
	stored_key BLOB NOT NULL, server_key BLOB NOT NULL, PRIMARY KEY (account, name));
-- RFC 7677 §3: the password is "pencil".
INSERT INTO account VALUES (1, 'keeper', 0, 1700000000000, X'5B6D99689D12358EECA04B141236FA81', 4096,
	X'586E5DF283E6DCEB5C3E791D8B8528EC191E664045CE971792E2E6B5BB13E2A6',
	X'C1F3CBC1C13A9D35A14C0990EED97629EA225863E566A4314AB99F3F00E5D9D5', NULL);
INSERT INTO account VALUES (2, 'clinic', 1, 1700000001000, X'00', 4096, X'00', X'00', NULL);
INSERT INTO setting VALUES ('secret', X'0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20');
INSERT INTO address VALUES (1, 'keeper', 'light.example', 'keeper');
INSERT INTO address VALUES (2, 'k', 'light.example', 'keeper');
INSERT INTO alias VALUES ('info', 'light.example', 'keeper', 'light.example');
INSERT INTO domain VALUES (1, 'lamp.example');
INSERT INTO certificate VALUES ('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'keeper');
INSERT INTO customer VALUES ('clinic', 60000, 1, 1700000002000, 2400000, 240000, 1, 'mail.clinic.example:25', 5000000, 200000);
INSERT INTO customer_domain VALUES (1, 'clinic.example', 'clinic');
INSERT INTO customer_domain VALUES (2, 'xn--klinik-fr-nkb.example', 'clinic');
INSERT INTO permission VALUES ('keeper', 'as', '@lamp.example');
INSERT INTO permission VALUES ('keeper', 'to', 'local');
INSERT INTO allowance VALUES ('keeper', 5, 7, 9);
-- The password is "quill", under the account's salt.
INSERT INTO app_password VALUES ('keeper', 'telephone', 1700000003000, X'D9541B27676159D2E6989C7247A6D807C9AEFF69549707342522C2E2405B2420',
	X'6713E5131032951168716101DFD89D3AAD8B6AD671FCD4CF3FC2E68C24EA59E2');
CREATE TABLE invitation (id TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE, salt BLOB NOT NULL,
	iterations INTEGER NOT NULL, stored_key BLOB NOT NULL, server_key BLOB NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
	used INTEGER NOT NULL DEFAULT 0, used_by TEXT NOT NULL DEFAULT '', used_key BLOB, revoked INTEGER NOT NULL DEFAULT 0);
CREATE INDEX invitation_account ON invitation (account);
INSERT INTO invitation VALUES ('abcdefgh', 'clinic', X'0001', 4096, X'02', X'03', 1700000003000, 1700000004000, 1700000003500, '192.0.2.1', X'02', 0);
CREATE TABLE customer_quota (account TEXT PRIMARY KEY REFERENCES customer (account) ON DELETE CASCADE, octets INTEGER NOT NULL,
	messages INTEGER NOT NULL, warn TEXT NOT NULL, warned INTEGER NOT NULL, lifetime INTEGER NOT NULL DEFAULT 0);
INSERT INTO customer_quota VALUES ('clinic', 1000000, 500, 'boss@mobile.example', 1700000005000, 864000000);
CREATE TABLE changed (seq INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL);
ALTER TABLE customer ADD COLUMN contact INTEGER NOT NULL DEFAULT 0;
CREATE INDEX customer_contact ON customer (contact);
CREATE TRIGGER account_insert AFTER INSERT ON account BEGIN INSERT INTO changed (account) VALUES (NEW.name); END;
CREATE TRIGGER account_update AFTER UPDATE ON account BEGIN INSERT INTO changed (account) VALUES (NEW.name); END;
CREATE TRIGGER account_delete AFTER DELETE ON account BEGIN INSERT INTO changed (account) VALUES (OLD.name); END;
CREATE TRIGGER address_insert AFTER INSERT ON address BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER address_update AFTER UPDATE ON address BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER address_delete AFTER DELETE ON address BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER certificate_insert AFTER INSERT ON certificate BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER certificate_update AFTER UPDATE ON certificate BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER certificate_delete AFTER DELETE ON certificate BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER customer_insert AFTER INSERT ON customer BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER customer_update AFTER UPDATE ON customer WHEN NEW.last_contact = OLD.last_contact BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER customer_delete AFTER DELETE ON customer BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER customer_domain_insert AFTER INSERT ON customer_domain BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER customer_domain_update AFTER UPDATE ON customer_domain BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER customer_domain_delete AFTER DELETE ON customer_domain BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER customer_quota_insert AFTER INSERT ON customer_quota BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER customer_quota_update AFTER UPDATE ON customer_quota BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER customer_quota_delete AFTER DELETE ON customer_quota BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER permission_insert AFTER INSERT ON permission BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER permission_update AFTER UPDATE ON permission BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER permission_delete AFTER DELETE ON permission BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER allowance_insert AFTER INSERT ON allowance BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER allowance_update AFTER UPDATE ON allowance BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER allowance_delete AFTER DELETE ON allowance BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER app_password_insert AFTER INSERT ON app_password BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER app_password_update AFTER UPDATE ON app_password BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER app_password_delete AFTER DELETE ON app_password BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER invitation_insert AFTER INSERT ON invitation BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER invitation_update AFTER UPDATE ON invitation BEGIN INSERT INTO changed (account) VALUES (NEW.account); END;
CREATE TRIGGER invitation_delete AFTER DELETE ON invitation BEGIN INSERT INTO changed (account) VALUES (OLD.account); END;
CREATE TRIGGER alias_insert AFTER INSERT ON alias BEGIN INSERT INTO changed (account) VALUES (''); END;
CREATE TRIGGER alias_update AFTER UPDATE ON alias BEGIN INSERT INTO changed (account) VALUES (''); END;
CREATE TRIGGER alias_delete AFTER DELETE ON alias BEGIN INSERT INTO changed (account) VALUES (''); END;
CREATE TRIGGER domain_insert AFTER INSERT ON domain BEGIN INSERT INTO changed (account) VALUES (''); END;
CREATE TRIGGER domain_update AFTER UPDATE ON domain BEGIN INSERT INTO changed (account) VALUES (''); END;
CREATE TRIGGER domain_delete AFTER DELETE ON domain BEGIN INSERT INTO changed (account) VALUES (''); END;
PRAGMA user_version = 9;

BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'wagon');
INSERT INTO "studies" VALUES(2,'wagon, run 0123456789abcdef0123456789abcdef: best of 6');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'definition','{"metric": "val_accuracy", "data": "3 videos (85d1c4adf8b0)", "sampler": "tpe, n_startup_trials 8", "pruner": "none", "model": "auto", "epochs": "5", "batch_size": "1", "precision": "fp32", "views": "0", "stride": "4", "frames_per_second": "0.0", "horizontal_flip": "False", "scheduler": "constant", "class_weights": "none", "patience": "0", "seed": "0", "learning_rate": "1e-06 to 0.01, log, from 1e-05", "gradient_accumulation_steps": "one of 1, 2, 4, 8, 16, from 4"}');
INSERT INTO "study_user_attributes" VALUES(2,1,'mlflow_run_id','"0123456789abcdef0123456789abcdef"');
INSERT INTO "study_user_attributes" VALUES(3,1,'videos: 3 videos (9c83ba91122c)','true');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_heartbeats" VALUES(1,1,'2026-11-29 11:45:23');
INSERT INTO "trial_heartbeats" VALUES(2,2,'2026-11-29 11:45:23');
INSERT INTO "trial_heartbeats" VALUES(3,3,'2026-11-29 11:45:23');
INSERT INTO "trial_heartbeats" VALUES(4,4,'2026-11-29 11:45:23');
INSERT INTO "trial_heartbeats" VALUES(5,7,'2026-11-29 11:45:23');
INSERT INTO "trial_heartbeats" VALUES(6,8,'2026-11-29 11:45:23');
INSERT INTO "trial_heartbeats" VALUES(7,5,'2026-11-29 11:45:23');
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,0.2,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,0.4,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,2,1,0.1,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'learning_rate',1.0e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(2,1,'gradient_accumulation_steps',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(3,2,'learning_rate',0.00781433817812294,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(4,2,'gradient_accumulation_steps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(5,3,'learning_rate',1.79166223382557513116e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(6,3,'gradient_accumulation_steps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(7,4,'learning_rate',8.25456086289623361222e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(8,4,'gradient_accumulation_steps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(9,7,'learning_rate',8.25456086289623361222e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(10,7,'gradient_accumulation_steps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(11,8,'learning_rate',8.25456086289623361222e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(12,8,'gradient_accumulation_steps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
INSERT INTO "trial_params" VALUES(13,5,'learning_rate',7.77501198666851736293e-05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(14,5,'gradient_accumulation_steps',4.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 2, 4, 8, 16]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"learning_rate": 1e-05, "gradient_accumulation_steps": 4}');
INSERT INTO "trial_system_attributes" VALUES(2,2,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(3,3,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(4,4,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(5,5,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(6,6,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(7,7,'fixed_params','{"learning_rate": 8.254560862896234e-05, "gradient_accumulation_steps": 1}');
INSERT INTO "trial_system_attributes" VALUES(8,8,'fixed_params','{"learning_rate": 8.254560862896234e-05, "gradient_accumulation_steps": 1}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'kept_epochs','0');
INSERT INTO "trial_user_attributes" VALUES(2,1,'metrics','{"val_accuracy": 0.4, "val_loss": 1.0}');
INSERT INTO "trial_user_attributes" VALUES(3,1,'best_epoch','2');
INSERT INTO "trial_user_attributes" VALUES(4,1,'seconds','1.5');
INSERT INTO "trial_user_attributes" VALUES(5,2,'kept_epochs','0');
INSERT INTO "trial_user_attributes" VALUES(6,2,'seconds','1.0');
INSERT INTO "trial_user_attributes" VALUES(7,3,'kept_epochs','0');
INSERT INTO "trial_user_attributes" VALUES(8,3,'seconds','1.0');
INSERT INTO "trial_user_attributes" VALUES(9,3,'failure','"training loss became nan"');
INSERT INTO "trial_user_attributes" VALUES(10,4,'kept_epochs','0');
INSERT INTO "trial_user_attributes" VALUES(11,4,'cause','"RuntimeError: CUDA out of memory"');
INSERT INTO "trial_user_attributes" VALUES(12,7,'slot','3');
INSERT INTO "trial_user_attributes" VALUES(13,7,'kept_epochs','0');
INSERT INTO "trial_user_attributes" VALUES(14,7,'cause','"RuntimeError: CUDA out of memory"');
INSERT INTO "trial_user_attributes" VALUES(15,8,'slot','3');
INSERT INTO "trial_user_attributes" VALUES(16,8,'kept_epochs','0');
INSERT INTO "trial_user_attributes" VALUES(17,8,'cause','"RuntimeError: CUDA out of memory"');
INSERT INTO "trial_user_attributes" VALUES(18,5,'kept_epochs','1');
INSERT INTO "trial_user_attributes" VALUES(19,5,'given_back','true');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.4,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,0.1,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-29 11:45:23.433970','2026-11-29 11:45:23.473671');
INSERT INTO "trials" VALUES(2,1,1,'PRUNED','2026-11-29 11:45:23.488686','2026-11-29 11:45:23.513926');
INSERT INTO "trials" VALUES(3,2,1,'FAIL','2026-11-29 11:45:23.527267','2026-11-29 11:45:23.550385');
INSERT INTO "trials" VALUES(4,3,1,'FAIL','2026-11-29 11:45:23.563095','2026-11-29 11:45:23.584985');
INSERT INTO "trials" VALUES(5,4,1,'FAIL','2026-11-29 11:45:23.670434','2026-11-29 11:45:23.691576');
INSERT INTO "trials" VALUES(6,5,1,'WAITING',NULL,NULL);
INSERT INTO "trials" VALUES(7,6,1,'FAIL','2026-11-29 11:45:23.604766','2026-11-29 11:45:23.623081');
INSERT INTO "trials" VALUES(8,7,1,'FAIL','2026-11-29 11:45:23.642899','2026-11-29 11:45:23.661910');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;

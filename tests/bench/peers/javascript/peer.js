'use strict'
// Consumers with @confluentinc/kafka-javascript and pg: `node peer.js record`
// writes a row a message, `node peer.js batch` a statement a batch.
const http = require('node:http')
const { KafkaJS } = require('@confluentinc/kafka-javascript')
const { Pool } = require('pg')

const { BENCH_BOOTSTRAP, BENCH_TOPIC, BENCH_GROUP, BENCH_DATABASE, BENCH_WORK, BENCH_EFFECTS } = process.env
const ATTEMPTS = 3
const RETRY_MS = 20
const TELL_EVERY_MS = 500
const PARTITIONS_AT_ONCE = 8
const COLUMNS =
  'position_id, record_offset, message_id, key, state, reason, record_time, received_at, started_at, settled_at'
const INSERT = `INSERT INTO delivery (${COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`
const INSERT_MANY =
  `INSERT INTO delivery (${COLUMNS}) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], ` +
  '$5::smallint[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]) ON CONFLICT DO NOTHING'

let calls = 0
const agent = new http.Agent({ keepAlive: true })
const pool = new Pool({ connectionString: BENCH_DATABASE, max: PARTITIONS_AT_ONCE })

const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function get(url) {
  return new Promise((resolve, reject) => {
    http.get(url, { agent }, (answer) => answer.resume().on('end', resolve)).on('error', reject)
  })
}

function validate(body) {
  const order = JSON.parse(body.toString())
  if (!Number.isInteger(order.sequence)) throw new Error('sequence is no whole number')
  if (typeof order.key !== 'string' || order.key === '') throw new Error('key is empty')
  if (!(order.amount > 0)) throw new Error('amount is not above zero')
  if (!Array.isArray(order.items) || order.items.length === 0) throw new Error('items is empty')
}

/** The handler; a promise only where the work waits for something. */
function handle(message) {
  calls++
  switch (BENCH_WORK) {
    case 'none':
      return
    case 'json':
      return validate(message.value)
    case 'failing':
      if (message.key.toString().endsWith('00')) throw new Error('this key always fails')
      return
    case 'effect': {
      const { sequence } = JSON.parse(message.value.toString())
      return get(`${BENCH_EFFECTS}/?key=${message.key}&sequence=${sequence}`)
    }
    default:
      throw new Error(`BENCH_WORK is ${BENCH_WORK}`)
  }
}

/** The columns of a row, after as many attempts as the message needs or may have. */
async function settle(partition, message, received) {
  let started
  let reason = null
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    started = now()
    try {
      const pending = handle(message)
      if (pending) await pending
      reason = null
      break
    } catch (failure) {
      reason = failure.message
      if (attempt < ATTEMPTS) await sleep(RETRY_MS)
    }
  }
  const { offset, key, timestamp } = message
  const id = `${BENCH_TOPIC}:${partition}:${offset}`
  return [partition, offset, id, key, reason === null ? 5 : 4, reason, Number(timestamp) * 1000, received, started, now()]
}

/** Rows of one batch: the messages of a key one after another, the keys at once. */
async function settleAll(partition, messages) {
  const received = now()
  const lanes = new Map()
  for (const message of messages) {
    const key = message.key.toString('latin1')
    const lane = lanes.get(key)
    if (lane) lane.push(message)
    else lanes.set(key, [message])
  }
  const rows = []
  await Promise.all(
    Array.from(lanes.values(), async (lane) => {
      for (const message of lane) rows.push(await settle(partition, message, received))
    }),
  )
  return rows
}

async function writeAll(rows) {
  const columns = rows[0].map((_, column) => rows.map((row) => row[column]))
  await pool.query({ name: 'insert-many', text: INSERT_MANY, values: columns })
}

async function main() {
  const kafka = new KafkaJS.Kafka({ kafkaJS: { brokers: [BENCH_BOOTSTRAP], logLevel: KafkaJS.logLevel.ERROR } })
  // The offset of a message is stored once its callback is done, and what is
  // stored is committed: never before the row.
  const consumer = kafka.consumer({
    kafkaJS: {
      groupId: BENCH_GROUP,
      fromBeginning: true,
      autoCommit: true,
      autoCommitInterval: 1000,
      sessionTimeout: 6000,
      heartbeatInterval: 1000,
      readUncommitted: false,
    },
    'js.consumer.max.batch.size': 2000,
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [BENCH_TOPIC] })
  setInterval(() => console.log(JSON.stringify({ calls })), TELL_EVERY_MS)
  if (process.argv[2] === 'record') {
    await consumer.run({
      partitionsConsumedConcurrently: PARTITIONS_AT_ONCE,
      eachMessage: async ({ partition, message }) => {
        const values = await settle(partition, message, now())
        await pool.query({ name: 'insert', text: INSERT, values })
      },
    })
  } else {
    await consumer.run({
      partitionsConsumedConcurrently: PARTITIONS_AT_ONCE,
      eachBatch: async ({ batch }) => writeAll(await settleAll(batch.partition, batch.messages)),
    })
  }
}

main().catch((failure) => {
  console.error(failure)
  process.exit(1)
})

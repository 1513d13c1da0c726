// One call as its events tell it: what was said, the turns with their instants, tools and keys. Pure.

/** Return a call of which nothing is known but its id. */
export function newCall(id) {
  return {
    id, began: false, outcome: "", error: "", utterances: [], partial: null, turns: [], tools: [], keys: [],
    voice: null, reply: null, cost: null,
  };
}

function withTurn(call, index, change) {
  const known = call.turns.find((turn) => turn.index === index);
  const turns = known ? call.turns.map((turn) => (turn === known ? { ...turn, ...change } : turn))
    : [...call.turns, { index, ...change }];
  return { ...call, turns };
}

function lastTurn(call) {
  return call.turns.length ? call.turns[call.turns.length - 1].index : 0;
}

function said(call, record) {
  const { role, text, revises } = record.data;
  if (role !== "user") {
    // Reported when the caller has heard it: the utterance that has ended last, or the one that is still open.
    const place = call.utterances.findLastIndex((one) => one.role === "agent" && !one.text);
    if (place >= 0) return { ...call, utterances: call.utterances.with(place, { ...call.utterances[place], text }) };
    return { ...call, utterances: [...call.utterances, { role: "agent", from: record.at_ms, to: record.at_ms, text }] };
  }
  const place = call.utterances.findLastIndex((one) => one.role === "caller");
  if (revises && place >= 0) {
    return { ...call, partial: null, utterances: call.utterances.with(place, { ...call.utterances[place], text }) };
  }
  const voice = call.voice || { from: record.at_ms, to: record.at_ms };
  const words = { role: "caller", from: voice.from, to: voice.to ?? record.at_ms, text };
  return { ...call, partial: null, voice: null, utterances: [...call.utterances, words] };
}

function speechStarted(call, record) {
  const turn = record.data.turn_idx;
  const utterance = { role: "agent", from: record.at_ms, to: null, text: "", turn };
  return withTurn({ ...call, utterances: [...call.utterances, utterance] }, turn, { speech: record.at_ms });
}

function speechEnded(call, record) {
  const place = call.utterances.findLastIndex((one) => one.role === "agent" && one.to === null);
  if (place < 0) return call;
  const ended = { ...call.utterances[place], to: record.at_ms, cut: record.data.interrupted };
  return { ...call, utterances: call.utterances.with(place, ended) };
}

function toolEnded(call, record) {
  const { tool_call_id: id, result, error, duration } = record.data;
  return {
    ...call,
    tools: call.tools.map((tool) => (tool.id === id ? { ...tool, to: record.at_ms, result, error, duration } : tool)),
  };
}

function measured(call, record) {
  const { turn, cost_so_far: cost } = record.data;
  const { latency, interrupted, failed, user_text: question, agent_text: answer } = turn;
  return { ...withTurn(call, turn.turn_index, { latency, interrupted, failed, question, answer }), cost };
}

/** Return a call behind one more event of it. */
export function afterEvent(call, record) {
  const { at_ms: at, data } = record;
  switch (record.type) {
    case "call_started":
      return { ...call, began: true };
    case "user_speech_started":
      return { ...call, voice: call.voice ? { ...call.voice, to: null } : { from: at, to: null } };
    case "user_speech_ended":
      return { ...call, voice: call.voice ? { ...call.voice, to: data.audio_offset_ms ?? at } : null };
    case "transcript_partial":
      return { ...call, partial: { text: data.text, at } };
    case "user_speech_eos": {
      const index = lastTurn(call) + 1;
      const silent = call.voice?.to ?? at - (data.trailing_silence_ms ?? 0);
      return withTurn(call, index, { silent, decided: at });
    }
    case "transcript_final":
      return said(call, record);
    case "llm_token":
      return withTurn(call, data.turn_idx, { token: at });
    case "audio_out":
      return withTurn(call, data.turn_idx, { audio: at });
    case "agent_speech_started":
      return speechStarted(call, record);
    case "agent_speech_ended":
      return speechEnded(call, record);
    case "tool_call_started": {
      const { tool_call_id: id, name, arguments: given } = data;
      return { ...call, tools: [...call.tools, { id, name, given, from: at, to: null }] };
    }
    case "tool_call_completed":
      return toolEnded(call, record);
    case "dtmf_received":
      return { ...call, keys: [...call.keys, { at, digit: data.digit }] };
    case "metrics_collected":
      return measured(call, record);
    case "call_ended":
      return { ...call, outcome: data.outcome, error: data.error || "", partial: null };
    default:
      return call;
  }
}

// Times Porcupine on histories in the text format of benchmarks/logs.py: one JSON line per file.
//
//	call ID KEY F A B     F: read write cas get put append
//	return ID V           never for an operation of unknown outcome
//
// Fields are separated by tabs. Porcupine's own key-value logs are read as well. Parsing is timed apart from judging.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"hash/fnv"
	"os"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const nothing = -1 << 40 // what a register holds in the beginning

type input struct {
	key  string
	f    byte // r w c, g p a
	a, b int
	text string
}

type output struct {
	ok, unknown bool
	value       int
	text        string
}

func register(state, in, out interface{}) (bool, interface{}) {
	held, i, o := state.(int), in.(input), out.(output)
	switch i.f {
	case 'r':
		return o.unknown || o.value == held, held
	case 'w':
		return true, i.a
	}
	same := held == i.a
	fits := o.unknown || o.ok == same
	if same {
		held = i.b
	}
	return fits, held
}

func text(state, in, out interface{}) (bool, interface{}) {
	held, i, o := state.(string), in.(input), out.(output)
	switch i.f {
	case 'g':
		return o.unknown || o.text == held, held
	case 'p':
		return true, i.text
	}
	return true, held + i.text
}

func byKey(history []porcupine.Event) [][]porcupine.Event {
	parts, keys := map[string][]porcupine.Event{}, map[int]string{}
	for _, event := range history {
		if event.Kind == porcupine.CallEvent {
			keys[event.Id] = event.Value.(input).key
		}
		parts[keys[event.Id]] = append(parts[keys[event.Id]], event)
	}
	var all [][]porcupine.Event
	for _, part := range parts {
		all = append(all, part)
	}
	return all
}

var registers = porcupine.Model{
	PartitionEvent: byKey, Step: register,
	Init: func() interface{} { return nothing },
	Hash: func(state interface{}) uint64 { return uint64(state.(int)) * 0x9E3779B97F4A7C15 },
}

var texts = porcupine.Model{
	PartitionEvent: byKey, Step: text,
	Init: func() interface{} { return "" },
	Hash: func(state interface{}) uint64 {
		hash := fnv.New64a()
		hash.Write([]byte(state.(string)))
		return hash.Sum64()
	},
}

func number(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil {
		return nothing
	}
	return n
}

// The parser that Porcupine's own tests have for its key-value logs, expressions and all.
var (
	invokeGet    = regexp.MustCompile(`{:process (\d+), :type :invoke, :f :get, :key "(.*)", :value nil}`)
	invokePut    = regexp.MustCompile(`{:process (\d+), :type :invoke, :f :put, :key "(.*)", :value "(.*)"}`)
	invokeAppend = regexp.MustCompile(`{:process (\d+), :type :invoke, :f :append, :key "(.*)", :value "(.*)"}`)
	returnGet    = regexp.MustCompile(`{:process (\d+), :type :ok, :f :get, :key ".*", :value "(.*)"}`)
	returnPut    = regexp.MustCompile(`{:process (\d+), :type :ok, :f :put, :key ".*", :value ".*"}`)
	returnAppend = regexp.MustCompile(`{:process (\d+), :type :ok, :f :append, :key ".*", :value ".*"}`)
)

func parseKv(lines *bufio.Scanner) []porcupine.Event {
	var events []porcupine.Event
	id, ids := 0, map[int]int{}
	call := func(f byte, args []string) {
		process, _ := strconv.Atoi(args[1])
		in := input{key: args[2], f: f}
		if f != 'g' {
			in.text = args[3]
		}
		events = append(events, porcupine.Event{ClientId: process, Kind: porcupine.CallEvent, Value: in, Id: id})
		ids[process] = id
		id++
	}
	back := func(args []string) {
		process, _ := strconv.Atoi(args[1])
		out := output{}
		if len(args) > 2 {
			out.text = args[2]
		}
		events = append(events, porcupine.Event{ClientId: process, Kind: porcupine.ReturnEvent, Value: out, Id: ids[process]})
		delete(ids, process)
	}
	for lines.Scan() {
		line := lines.Text()
		switch {
		case invokeGet.MatchString(line):
			call('g', invokeGet.FindStringSubmatch(line))
		case invokePut.MatchString(line):
			call('p', invokePut.FindStringSubmatch(line))
		case invokeAppend.MatchString(line):
			call('a', invokeAppend.FindStringSubmatch(line))
		case returnGet.MatchString(line):
			back(returnGet.FindStringSubmatch(line))
		case returnPut.MatchString(line):
			back(returnPut.FindStringSubmatch(line))
		case returnAppend.MatchString(line):
			back(returnAppend.FindStringSubmatch(line))
		}
	}
	for process, open := range ids {
		out := porcupine.Event{ClientId: process, Kind: porcupine.ReturnEvent, Value: output{unknown: true}, Id: open}
		events = append(events, out)
	}
	return events
}

func parse(path string) ([]porcupine.Event, porcupine.Model) {
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	lines := bufio.NewScanner(reader)
	lines.Buffer(make([]byte, 1<<20), 1<<26)
	if first, _ := reader.Peek(1); string(first) == "{" {
		return parseKv(lines), texts
	}
	var events []porcupine.Event
	open := map[int]input{}
	model := registers
	for lines.Scan() {
		words := strings.Split(lines.Text(), "\t")
		id := number(words[1])
		if words[0] == "call" {
			in := input{words[2], words[3][0], number(words[4]), number(words[5]), words[4]}
			if in.f == 'g' || in.f == 'p' || in.f == 'a' {
				model = texts
			}
			open[id] = in
			events = append(events, porcupine.Event{Kind: porcupine.CallEvent, Value: in, Id: id})
			continue
		}
		delete(open, id)
		out := output{ok: words[2] == "true", value: number(words[2]), text: words[2]}
		events = append(events, porcupine.Event{Kind: porcupine.ReturnEvent, Value: out, Id: id})
	}
	var left []int
	for id := range open {
		left = append(left, id)
	}
	sort.Ints(left)
	for _, id := range left {
		events = append(events, porcupine.Event{Kind: porcupine.ReturnEvent, Value: output{unknown: true}, Id: id})
	}
	return events, model
}

func main() {
	times := flag.Int("times", 5, "how often each is judged")
	patience := flag.Float64("patience", 15, "seconds for one judgement")
	flag.Parse()
	encoder := json.NewEncoder(os.Stdout)
	for _, path := range flag.Args() {
		began := time.Now()
		events, model := parse(path)
		parsing := time.Since(began).Seconds()
		var took []float64
		var result porcupine.CheckResult
		for i := 0; i < *times; i++ {
			runtime.GC()
			began := time.Now()
			result = porcupine.CheckEventsTimeout(model, events, time.Duration(*patience*1e9))
			took = append(took, time.Since(began).Seconds())
			if took[i] > 2 {
				break
			}
		}
		sort.Float64s(took)
		encoder.Encode(map[string]interface{}{
			"file": path, "result": string(result), "median": took[len(took)/2], "parsing": parsing,
		})
	}
}
